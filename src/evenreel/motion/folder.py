"""Motion modules as a folder in the layout of diffusers' `MotionAdapter`: config.json and safetensors."""

import json
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import save_file
from torch import Tensor

from evenreel.backbones import safetensors_file
from evenreel.backbones.folder import PartFolder
from evenreel.files import unwritable, write_atomically
from evenreel.motion.layout import config_of, filled
from evenreel.motion.modules import MotionModules
from evenreel.motion.single_file import MotionFile

CONFIG = "config.json"
_CLASS, _STEM = "MotionAdapter", "diffusion_pytorch_model"
WEIGHTS = (f"{_STEM}.safetensors", f"{_STEM}.fp16.safetensors")
"""Names of the weights: in full, and in half precision."""


class MotionFolder(PartFolder):
    """Motion modules in diffusers' layout: one part, which is the folder itself."""

    parts = MappingProxyType({"": (_CLASS, _STEM)})
    wanted = "motion modules made for the model"
    gigabytes = 1.7


def save_motion(modules: MotionModules, folder: str | Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write modules so that diffusers' `MotionAdapter.from_pretrained` and `load_motion` read them.

    Float16 weights get the name of diffusers' variant. Each file is at every moment the old or the whole new one.
    Returns the folder. Raises: OutputError.
    """
    folder = Path(folder)
    variant = dtype == torch.float16
    tensors = {
        name: value.detach().to("cpu", dtype).contiguous() for name, value in modules.state_dict().items()
    }
    config = {"_class_name": _CLASS, **modules.config.to_json(), "conv_in_channels": None}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS[not variant]).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    write_atomically(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    write_atomically(folder / WEIGHTS[variant], lambda path: save_file(tensors, path, {"format": "pt"}))
    return folder


def load_motion(place: str | Path | MotionFolder | MotionFile) -> MotionModules:
    """Read modules from a folder of this layout or from one file, in float32 on the CPU, ready for inference.

    Raises: WeightsError when something is absent, damaged, or not what this package can use.
    """
    if isinstance(place, str | Path):
        place = MotionFile(Path(place)) if Path(place).is_file() else MotionFolder(Path(place))
    if isinstance(place, MotionFile):
        return place.load()
    place.check()
    config = config_of(place.path / CONFIG, place.config(""))
    tensors: dict[str, Tensor] = {}
    for file in place.weight_files(""):
        tensors.update(safetensors_file.load(file))
    return filled(place.path, config, tensors, f"{CONFIG} speaks of")
