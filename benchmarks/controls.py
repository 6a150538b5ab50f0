"""How closely drawings of mini follow maps: overlap of the object drawn with the scene's, with a ControlNet and not.

    python benchmarks/controls.py                       # the packaged ControlNet, 32 unseen scenes of each kind
    python benchmarks/controls.py --net FOLDER --count 8 --out FILE.json

`without` says how much of the overlap the caption alone gives, `other map` (the next scene's) that it is the map that
counts. Exact maps of the world; the object in a drawing is found by the packaged segmenter.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from PIL import Image
from torch import Tensor

from evenreel.backbones import load_backbone
from evenreel.backbones.mini import CONTROL, FOLDER
from evenreel.training.mini import control
from evenreel.training.mini.start import StartFolder


def sheet(pictures: Tensor, path: Path) -> None:
    """Sixteen in a row, in [0, 1]."""
    rows = [torch.cat(list(row), dim=2) for row in pictures.split(16)]
    whole = torch.cat(
        [torch.nn.functional.pad(row, (0, rows[0].shape[2] - row.shape[2])) for row in rows], dim=1
    )
    Image.fromarray((whole.movedim(0, -1) * 255).round().byte().numpy()).save(path)


def main() -> None:
    """Print the figures; write them and the drawings where told."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", type=Path, default=CONTROL)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--first", type=int, default=1000, help="the first of the unseen scenes")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sheet", type=Path)
    told = parser.parse_args()
    backbone: Any = load_backbone("mini", dtype="float32")
    net: Any = ControlNetModel.from_pretrained(told.net, torch_dtype=torch.float32)
    text_encoder: Any = StartFolder(FOLDER).text_encoder()
    for network in (net, text_encoder):
        network.to(backbone.device).eval()
    networks = (net, backbone.unet, text_encoder, backbone.vae)
    figures, pictures = control.followed(
        *networks, control.KINDS, told.count, first=told.first, dtype=told.dtype
    )
    line = {"count": told.count, "first": told.first, "dtype": told.dtype, **figures}
    print(json.dumps(line, indent=1))
    if told.out is not None:
        told.out.write_text(json.dumps(line) + "\n", encoding="utf-8", newline="\n")
    if told.sheet is not None:
        sheet(pictures, told.sheet)


if __name__ == "__main__":
    main()
