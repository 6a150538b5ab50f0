"""What an edit, or a clip made from text, may have several settings of: ControlNets, an adapter, regions."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from evenreel.errors import SettingsError, argument
from evenreel.settings.kinds import (
    Formerly,
    NotEmpty,
    Option,
    Place,
    Range,
)
from evenreel.settings.option_groups import ADAPTER, CONTROL, REGION
from evenreel.settings.reader import settle

PACKAGED_CONTROLS = {f"mini-{kind}": kind for kind in ("canny", "depth", "pose")}
"""Names of the ControlNets that come with `mini`, and what each is shown."""
ADAPTER_PARTS = {
    "lora": frozenset({"lora"}),
    "shared": frozenset({"shared"}),
    "frames": frozenset({"frames"}),
    "tokens": frozenset({"shared", "frames"}),
}
"""Names of an adapter's parts, and what each stands for."""


@dataclass(frozen=True, kw_only=True)
class ControlUse:
    """How a ControlNet takes part.

    Examples:
        >>> edges = evenreel.ControlUse(model="lllyasviel/sd-controlnet-canny", scale=0.8)
        >>> evenreel.EditSettings(prompt="a blue star", control=(edges,)).to_json()["control_kind"]
        'canny'
    """

    prefix: ClassVar[str] = "control"
    noun: ClassVar[str] = "a ControlNet"

    model: Annotated[str, NotEmpty(), Place(), Option(CONTROL, metavar="NAME|FOLDER|FILE", default="none")]
    """ControlNet made for the model: a diffusers folder, one safetensors file, a name on the Hugging Face hub, or for
    the packaged model `mini-canny`, `mini-depth` or `mini-pose`; may be given several times."""
    kind: Annotated[
        Literal["canny", "depth", "pose", "as-is"],
        Formerly({"none": "as-is"}),
        Option(CONTROL),
    ] = "canny"
    """What the ControlNet is shown of every frame: `canny`, edges that evenreel finds in it; `depth` or `pose`, what
    a depth model or a pose model makes of it, and where none is named the frame itself, which must be such a map;
    `as-is`, the frame itself. Given once for all, or once for each, in their order."""
    scale: Annotated[float, Range(0.0, 10.0), Option(CONTROL, metavar="NUMBER")] = 1.0
    """How much the ControlNet counts; 0 is not at all. Given once for all, or once for each, in their order."""
    clip: Annotated[
        str | None, Place(), Option(CONTROL, metavar="CLIP", default="in an edit, its source")
    ] = None
    """Clip, or folder of images, whose frames the ControlNet is shown: one for each frame of the result. Given once for
    all, or once for each, in their order; in an edit an empty name is its source."""

    def __post_init__(self) -> None:
        settle(self)
        if (own := PACKAGED_CONTROLS.get(self.model)) is not None:
            if self.kind not in (own, "canny"):  # which is the default
                raise SettingsError(
                    f"{argument('control')} {self.model} is shown {own} maps, and {argument('control_kind')} is "
                    f"{self.kind}; leave {argument('control_kind')} out."
                )
            object.__setattr__(self, "kind", own)


@dataclass(frozen=True, kw_only=True)
class AdapterUse:
    """How an adapter takes part.

    Examples:
        >>> use = evenreel.AdapterUse(file="mine.safetensors", scale=0.5)
        >>> evenreel.EditSettings(prompt="a blue star", adapter=use).to_json()["adapter_scale"]
        0.5
    """

    prefix: ClassVar[str] = "adapter"
    noun: ClassVar[str] = "an adapter"

    file: Annotated[str, NotEmpty(), Place(or_packaged=True), Option(ADAPTER, metavar="FILE", default="none")]
    """Adapter file made for the model, by `evenreel train adapter` or `evenreel adapter import`."""
    scale: Annotated[float | None, Range(0.0, 10.0), Option(ADAPTER, default="as the file says")] = None
    """How much of the adapter's LoRA counts; 0 switches the adapter off."""
    window: Annotated[str | None, Option(ADAPTER, metavar="START:END", default="as the file says")] = None
    """Noise levels at which the adapter is at work, as shares from 0 (clean) to 1."""
    parts: Annotated[str | None, Option(ADAPTER, metavar="PART,PART", default="all that the file has")] = None
    """Parts of the adapter that are at work, with commas between them: `lora`; `shared`, its prompt tokens that all
    frames share; `frames`, its prompt tokens of each frame; `tokens`, both of these."""
    frame_weight: Annotated[float | None, Range(0.0, 100.0), Option(ADAPTER, default="as the file says")] = (
        None
    )
    """Number by which the adapter's prompt tokens of each frame are multiplied."""
    clip: Annotated[
        str | None, Place(or_packaged=True), Option(ADAPTER, metavar="FOLDER", default="as the file says")
    ] = None
    """Folder of the CLIP model that looks at frames for the adapter, where the adapter's file does not lead to it."""
    other_base: Annotated[bool, Option(ADAPTER)] = False
    """Use the adapter with a model, or a CLIP, that it was not made for."""
    fused: Annotated[bool, Option(ADAPTER)] = False
    """Add the adapter's LoRA to copies of the weights, which takes more memory and saves time."""
    as_published: Annotated[bool, Option(ADAPTER, flags=("--as-published",))] = False
    """Use the adapter as the GE-Adapter's paper does: at scale 0.5, in the window 0.9:1, and in edits with the
    inversion `bilateral` in the place of `flow-edit`; a scale or window that is given counts."""

    def __post_init__(self) -> None:
        settle(self)
        _ = self.parts_at_work
        if self.as_published:
            object.__setattr__(self, "scale", 0.5 if self.scale is None else self.scale)
            object.__setattr__(self, "window", self.window or "0.9:1")

    @property
    def parts_at_work(self) -> frozenset[str] | None:
        """Those of `lora`, `shared` and `frames` that are named; None for all that the file has. Raises:
        SettingsError."""
        if self.parts is None:
            return None
        named = [part.strip() for part in self.parts.split(",")]
        if strange := [part for part in named if part not in ADAPTER_PARTS]:
            raise SettingsError(
                f"{argument('adapter_parts')} must name parts out of {', '.join(ADAPTER_PARTS)}, got "
                f"{strange[0][:40]!r}."
            )
        return frozenset(one for part in named for one in ADAPTER_PARTS[part])


@dataclass(frozen=True, kw_only=True)
class RegionUse:
    """A place with a prompt of its own.

    Examples:
        >>> left = evenreel.RegionUse(mask="left.png", prompt="snow")
        >>> evenreel.EditSettings(prompt="sand", region=(left,)).to_json()["region_prompt"]
        'snow'
    """

    prefix: ClassVar[str] = "region"
    noun: ClassVar[str] = "a region"

    mask: Annotated[str, NotEmpty(), Place(), Option(REGION, metavar="FILE", default="none")]
    """Picture, or clip with as many frames, as large as the source and white where the clip follows `--region-prompt`
    in the place of `--prompt`; may be given several times, and where they overlap the last one counts."""
    prompt: Annotated[
        str, NotEmpty("say what this place shows"), Option(REGION, metavar="TEXT", default="none")
    ]
    """What that place shows. It may change along the clip, as `--prompt` may. Given once for all, or once for each
    `--region`, in their order."""

    def __post_init__(self) -> None:
        settle(self)
