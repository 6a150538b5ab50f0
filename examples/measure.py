"""Measure an edit against its source: `python examples/measure.py clip.mp4 edited.mp4`."""

import sys

import evenreel

# What the edit was to show is read from the record beside it.
measured = evenreel.evaluate(*sys.argv[1:], metrics=("source_psnr", "source_ssim", "flicker"))
for name, figure in measured.figures.items():
    print(name, figure.unavailable if figure.value is None else f"{figure.value:.3f}")
