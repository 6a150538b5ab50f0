"""Autoencoders by themselves: a folder in diffusers' layout, or one file in its own or the original code's layout."""

from pathlib import Path

from torch import Tensor

from evenreel.backbones import configs, hub, layouts
from evenreel.backbones.folder import AutoencoderFolder
from evenreel.backbones.recognise import FAMILIES, autoencoder_prefix, recognise
from evenreel.backbones.safetensors_file import read_header
from evenreel.backbones.single_file import FilePart, autoencoder_tensors
from evenreel.backbones.weights import FolderPart, Part
from evenreel.errors import WeightsError, argument
from evenreel.files import expanded


def find_autoencoder(name: str, *, download: bool = False, family: str = "sd1") -> Part:
    """Find an autoencoder and check it: a folder, the folder of a whole model, one file, or a name on the hub.

    `family` is that of the model, `sd1` or `sdxl`: a file does not say how its latents are scaled.
    Raises: WeightsError.
    """
    path = expanded(name)
    if path.is_file():
        return _in_file(path, family)
    inside = path / "vae"
    folder = hub.find(str(inside) if inside.is_dir() else name, download=download, kind=AutoencoderFolder)
    folder.check()
    return FolderPart(folder, "")


def _in_file(path: Path, family: str) -> Part:
    header = read_header(path)
    prefix = autoencoder_prefix(header)
    found = recognise(header)
    foreign = found.family != "" and (found.family == "sdxl") != (family == "sdxl")
    if prefix is None or found.kind not in ("autoencoder", "checkpoint") or foreign:
        kind = FAMILIES["sdxl"] if family == "sdxl" else "SD 1.x or 2.x"
        raise WeightsError(f"{path}: is {found.said}; give an autoencoder for {kind} as {argument('vae')}.")
    by_diffusers = header.shape(f"{prefix}encoder.down_blocks.0.resnets.0.conv1.weight") is not None
    if by_diffusers and path.with_name("config.json").is_file():
        return find_autoencoder(str(path.parent))
    config = layouts.autoencoder(header, prefix, family)
    configs.checked(configs.AutoencoderSchema, config, path)
    names = tuple(
        n for n in header.tensors if n.startswith(prefix) and ".loss." not in f".{n.removeprefix(prefix)}"
    )
    header.check_floats(names)

    def convert(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return _renamed(tensors) if by_diffusers else autoencoder_tensors(tensors, config)

    return FilePart(header, "autoencoder", "AutoencoderKL", config, names, convert)


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names that diffusers has had since 2023 for the attention in an autoencoder."""
    earlier = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
    found = {}
    for name, tensor in tensors.items():
        for old, new in earlier.items():
            name = name.replace(old, new)
        found[name] = tensor
    return found
