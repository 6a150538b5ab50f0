"""How well a clip survives inversion and sampling with its own prompt and no guidance, against the number of steps.

    .venv/bin/python benchmarks/reconstruction.py                     # mini, 4 held-out clips of 8 frames
    .venv/bin/python benchmarks/reconstruction.py --steps 10,50 --clips 2

PSNR against the frames is bounded by the autoencoder; PSNR against what the autoencoder makes of the frames is the
inversion's own error.
"""

import argparse

import torch

from evenreel.backbones import load_backbone
from evenreel.workflows.reconstruction import reconstruction_psnr
from evenreel.world import HELD_OUT, caption, random_scene, render


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", default="5,10,20,30,50,100", help="numbers of steps, comma-separated")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--model", default="mini")
    parser.add_argument(
        "--prompt", action=argparse.BooleanOptionalAction, default=True, help="use the caption"
    )
    options = parser.parse_args()
    backbone = load_backbone(options.model)
    steps = [int(count) for count in options.steps.split(",")]
    sums = torch.zeros(len(steps), 2)
    for index in range(options.clips):
        scene = random_scene(HELD_OUT + index, objects=1)
        frames = render(scene, range(options.frames), backbone.native_size, maps=False).frames
        prompt = caption(scene) if options.prompt else ""
        for row, found in enumerate(reconstruction_psnr(backbone, frames, steps, prompt=prompt)):
            sums[row] += torch.tensor([found.psnr, found.psnr_to_autoencoder])
    print(f"{options.clips} clips of {options.frames} frames, mean PSNR in dB")
    print("steps  against the frames  against the autoencoder")
    for count, (psnr, own) in zip(steps, (sums / options.clips).tolist(), strict=True):
        print(f"{count:5d}  {psnr:18.1f}  {own:23.1f}")


if __name__ == "__main__":
    main()
