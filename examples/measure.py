"""Measure an edit against its source: `python examples/measure.py clip.mp4 edited.mp4`."""

import sys
from pathlib import Path

from evenreel.workflows.evaluation.evaluate import Evaluator
from evenreel.workflows.evaluation.pairs import Pair

source, edit = map(Path, sys.argv[1:])

# What the edit was to show is read from the record beside it.
measured = Evaluator(metrics=("source_psnr", "source_ssim", "flicker")).evaluate(
    Pair(source=source, edit=edit)
)
for name, figure in measured.figures.items():
    print(name, figure.unavailable if figure.value is None else f"{figure.value:.3f}")
