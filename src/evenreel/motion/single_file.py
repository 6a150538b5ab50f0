"""Motion modules in one safetensors file, as AnimateDiff's authors and others publish them."""

import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

from evenreel.backbones import safetensors_file
from evenreel.backbones.folder import read_json
from evenreel.backbones.recognise import recognise, used_as
from evenreel.backbones.safetensors_file import read_header
from evenreel.errors import WeightsError, argument
from evenreel.motion.layout import DEFAULTS, config_of, filled
from evenreel.motion.modules import MotionModules

_WRAPPED = re.compile(r"^(module\.|unet\.)+")
"""What trainings put in front of names."""
_ORIGINAL = (".temporal_transformer", "")
_NAMES = (
    _ORIGINAL,
    (".norms.0.", ".norm1."),
    (".norms.1.", ".norm2."),
    (".ff_norm.", ".norm3."),
    (".attention_blocks.0.", ".attn1."),
    (".attention_blocks.1.", ".attn2."),
)
"""Names of the original code, and diffusers'."""
_POSITIONS = re.compile(r"\.(attn\d\.pos_encoder|pos_embed)\.pe$")


class MotionFile:
    """Motion modules in one file: their layout follows from the shapes of its tensors."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raises: WeightsError for what does not hold motion modules."""
        self.path = path
        self._header = read_header(path)
        found = recognise(self._header)
        if found.kind != "motion":
            setting = used_as(found)
            advice = (
                "give modules made for the model" if setting is None else f"give it as {argument(setting)}"
            )
            raise WeightsError(f"{path}: is {found.said}, not motion modules; {advice}.")
        self._header.check_floats()
        self._names = {_plain(name): name for name in self._header.tensors}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the file."""
        return safetensors_file.sha256(self.path)

    def load(self) -> MotionModules:
        """Return the modules, in float32 on the CPU, ready for inference. Raises: WeightsError.

        Where frames are is computed, as diffusers does: of what files say of it only the number of frames counts.
        """
        config = config_of(self.path, self._described())
        loaded = safetensors_file.load(self.path)
        tensors = {name: loaded[own] for name, own in self._names.items() if not _POSITIONS.search(name)}
        positions = {
            name: tensor
            for name, tensor in MotionModules(config).state_dict().items()
            if _POSITIONS.search(name)
        }
        return filled(self.path, config, {**tensors, **positions}, "its layout follows from")

    def _described(self) -> dict[str, Any]:
        """What a config.json would say; one beside the file counts where the names are diffusers'."""
        beside = self.path.with_name("config.json")
        if not any(_ORIGINAL[0] in name for name in self._header.tensors):
            entries = read_json(beside) if beside.is_file() else {}
            if entries.get("_class_name") != "MotionAdapter":
                raise WeightsError(
                    f"{self.path}: does not say how many heads its attentions have; put the config.json of the motion "
                    "modules beside it, or give their folder."
                )
            return entries
        widths: list[int] = []
        layers: list[int] = []
        inside: list[int] = []
        while (
            shape := self._shape(f"down_blocks.{len(widths)}.motion_modules.0.proj_in.weight")
        ) is not None:
            block = f"down_blocks.{len(widths)}.motion_modules."
            counts = self._count(block)
            widths.append(shape[0])
            layers.append(len(counts))
            inside.append(counts["0"])
        middle = self._count("mid_block.motion_modules.")
        shapes = [self._header.tensors[own].shape for n, own in self._names.items() if _POSITIONS.search(n)]
        frames = {shape[1] for shape in shapes if len(shape) == 3}
        return {
            "block_out_channels": widths,
            "motion_layers_per_block": layers,
            "motion_transformer_layers_per_block": inside,
            "motion_transformer_layers_per_mid_block": middle.get("0", 1),
            "use_motion_mid_block": bool(middle),
            "motion_max_seq_length": min(frames) if frames else DEFAULTS["motion_max_seq_length"],
        }

    def _shape(self, name: str) -> tuple[int, ...] | None:
        return self._header.shape(self._names[name]) if name in self._names else None

    def _count(self, block: str) -> Counter[str]:
        """Transformer layers of each module of a block, by its number."""
        found = {
            (match[1], match[2])
            for name in self._names
            if (match := re.match(re.escape(block) + r"(\d+)\.transformer_blocks\.(\d+)\.", name))
        }
        return Counter(module for module, _ in found)


def _plain(name: str) -> str:
    """Diffusers' name of a tensor."""
    name = _WRAPPED.sub("", name)
    for theirs, ours in _NAMES:
        name = name.replace(theirs, ours)
    return name
