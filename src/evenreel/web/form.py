"""What the page's form says, as settings, and settings as the form shows them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from evenreel import registry
from evenreel.errors import SettingsError
from evenreel.settings import ControlUse, EditSettings
from evenreel.settings.fields import hints, leaves, split
from evenreel.settings.kinds import each, parse_frames, parse_size

PRESETS = {"quick look": 8, "as usual": None, "careful": 50}
"""Steps, by what people call them; None is as is best for the model."""
NAMES = (
    "prompt",
    "source_prompt",
    "negative_prompt",
    "steps",
    "strength",
    "prompt_glide",
    "frames",
    "model",
    "host",
    "inversion",
    "guidance_scale",
    "seed",
    "size",
    "adapter",
    "control",
    "control_kind",
    "control_clip",
    "depth_model",
    "pose_model",
    "person_detector",
    "motion",
    "batch",
    "mask",
    "mask_frame",
    "remove",
    "mask_model",
    "mask_words",
    "mask_words_model",
    "region",
    "region_prompt",
)
"""Settings that the form shows, in the order of its fields."""
REGIONS = ("region", "region_prompt")
"""Settings with a line of their field for each region."""
KINDS = get_args(split(hints(ControlUse)["kind"])[0])
"""What a ControlNet may be shown."""
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
"""Suffixes of masks that are followed from the frame that was painted."""
DEFAULTS = {
    "frames": ":",
    "size": "",
    "guidance_scale": None,
    "adapter": "",
    "control": "",
    "control_clip": "",
    "depth_model": "",
    "pose_model": "",
    "person_detector": "",
    "mask": "",
    "mask_frame": 0,
    "mask_model": "",
    "mask_words": "",
    "mask_words_model": "",
    "region": "",
    "region_prompt": "",
}
"""What fields show at first where that is not the setting's own default."""


def described(name: str) -> str:
    """Return the line that `--help` says of a setting."""
    return next(leaf.help for leaf in leaves(EditSettings) if leaf.name == name)


def start() -> dict[str, Any]:
    """Return what each field shows at first."""
    known = {leaf.name: leaf.default for leaf in leaves(EditSettings)}
    return {name: DEFAULTS.get(name, "" if name == "prompt" else known[name]) for name in NAMES}


def settings_of(values: Sequence[Any], painted: Path | None = None) -> EditSettings:
    """Make settings from what the fields hold, in the order of NAMES, and the mask that was painted, if any.

    What is painted is a region where there are more prompts of regions than masks of them, and else the mask. Raises:
    SettingsError.
    """
    told = dict(zip(NAMES, values, strict=True))
    for name in REGIONS:
        told[name] = [line.strip() for line in str(told[name] or "").splitlines() if line.strip()]
    if painted is not None and len(told["region_prompt"]) > len(told["region"]):
        told["region"].append(str(painted))
    elif painted is not None:
        told["mask"] = str(painted)
    told["frames"] = parse_frames("frames", str(told["frames"] or ":"))
    told["size"] = parse_size("size", str(told["size"])) if str(told["size"] or "").strip() else None
    for name in ("steps", "guidance_scale"):
        told[name] = told[name] or None  # a field that is empty says 0
    for name in ("steps", "prompt_glide", "seed", "batch"):
        if name != "steps" or told[name] is not None:
            told[name] = _whole(name, told[name])
    if not told["control"]:
        for name in ("control", "control_kind", "control_clip"):
            del told[name]
    else:
        told["control_clip"] = told["control_clip"] or None
    maps = ("depth_model", "pose_model", "person_detector")
    for name in ("adapter", "mask", "mask_model", "mask_words", *maps):
        if not str(told[name] or "").strip():
            del told[name]
    if not may_be_followed(told.get("mask")) or told["mask_frame"] is None:
        del told["mask_frame"]
    else:
        told["mask_frame"] = _whole("mask_frame", told["mask_frame"])
    if "mask_words" not in told or not told["mask_words_model"]:
        del told["mask_words_model"]
    if "mask_words" not in told and "mask_frame" not in told:
        told.pop("mask_model", None)
    return EditSettings.from_json({name: value for name, value in told.items() if value is not None})


def may_be_followed(mask: str | None) -> bool:
    """Tell whether a mask is one picture, by its name; a clip says itself where it is white."""
    return mask is not None and Path(mask).suffix.lower() in PICTURES


def values_of(settings: EditSettings) -> list[Any]:
    """Return what the fields show for some settings."""
    plain = {**start(), **{name: value for name, value in settings.to_json().items() if name in NAMES}}
    if settings.mask is None:
        plain["mask_frame"] = DEFAULTS["mask_frame"]  # what is painted next is followed
    for name in REGIONS:
        plain[name] = "\n".join(each(plain[name])) if settings.region else ""
    first, end = settings.frames
    plain["frames"] = f"{first or ''}:{'' if end is None else end}"
    size = settings.size
    plain["size"] = "" if size is None else "x".join(map(str, size)) if isinstance(size, tuple) else str(size)
    return [plain[name] for name in NAMES]


def hosts() -> list[str]:
    """Return the hosts there are, the default first."""
    return ["auto", *registry.names(registry.HOSTS)]


def inversions() -> list[str]:
    """Return the names of the inversions that there are."""
    return list(registry.names(registry.INVERSIONS))


def _whole(name: str, value: Any) -> int:
    if value is None or int(value) != value:
        raise SettingsError(f"{name} must be a whole number, got {value}.")
    return int(value)
