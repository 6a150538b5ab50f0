"""What an adapter is made of: frozen settings, read and checked like those of edits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from evenreel.adapters.window import INFERENCE, TRAINING, Window
from evenreel.errors import SettingsError, argument
from evenreel.settings import Option, Range, settle

ADAPTER = "Adapter"


def parse_scope(name: str, told: list[str]) -> str | tuple[str, ...]:
    """Read `down`, `all`, or patterns with commas between them."""
    del name
    patterns = tuple(part.strip() for part in ",".join(told).split(",") if part.strip())
    return patterns[0] if patterns in (("down",), ("all",)) else patterns


def parse_window(name: str, text: str) -> Window:
    """Read a window of noise levels, `START:END`, or START alone for START:1, as shares from 0 (clean) to 1."""
    del name
    return Window.parse(text)


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Which layers are changed, and how much they can be."""

    rank: Annotated[int, Range(1, 1024), Option(ADAPTER)] = 4
    """Rank of the LoRA."""
    alpha: Annotated[float, Range(0.0, above=True), Option(ADAPTER)] = 4.0
    """Weight of the LoRA, times its rank: what it adds is multiplied by alpha / rank."""
    scope: Annotated[
        str | tuple[str, ...], Option(ADAPTER, metavar="down|all|PATTERNS", parse=parse_scope)
    ] = "down"
    """Attention layers that the LoRA changes: `down` (those on the way down, as the GE-Adapter's paper says), `all` (as
    its code does), or patterns of their names with * for anything, such as `up_blocks.1.*.attn2.*`, comma-separated."""

    def __post_init__(self) -> None:
        settle(self)
        if isinstance(self.scope, str):
            if self.scope not in ("down", "all"):
                raise SettingsError(
                    f"{argument('scope')} must be down, all, or a list of layer patterns, got {self.scope!r}."
                )
        elif not self.scope:
            raise SettingsError(f"{argument('scope')} must name at least one pattern of layers, got none.")

    @property
    def scaling(self) -> float:
        """By what the product of the factors is multiplied."""
        return self.alpha / self.rank


@dataclass(frozen=True, kw_only=True)
class PromptTokenSettings:
    """How many tokens there are, and where those of a frame come from."""

    nothing: ClassVar[Mapping[str, Any]] = {"shared": 0, "select": "none"}
    """What is told where there are to be none at all."""

    shared: Annotated[int, Range(0, 1024), Option(ADAPTER, name="shared_tokens")] = 8
    """Learned prompt tokens that are the same for all frames; 0 for none."""
    select: Annotated[
        Literal["average", "stride", "none"],
        Option(ADAPTER, name="frame_tokens", metavar="average|stride|none"),
    ] = "average"
    """Prompt tokens of each frame by itself, made of what CLIP sees in it: `average` (of neighbours in pairs, Eq. 13 of
    the GE-Adapter's paper), `stride` (of the class token and every other patch, as the published code has it), or
    `none`."""
    weight: Annotated[float, Range(0.0), Option(ADAPTER, name="frame_token_weight")] = 1.0
    """Number that the prompt tokens of a frame are multiplied by."""

    def __post_init__(self) -> None:
        settle(self)
        if not self.shared and self.select == "none":
            raise SettingsError(
                "prompt tokens need some that are shared, or some of each frame; got neither."
            )


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """What an adapter is made of, and how it is meant to be used."""

    lora: LoraSettings | None = field(default_factory=LoraSettings)
    """Layers that it changes; None for none."""
    tokens: PromptTokenSettings | None = field(default_factory=PromptTokenSettings)
    """Tokens that it puts in front of prompts; None for none."""
    training_window: Annotated[
        Window, Option(ADAPTER, name="window", metavar="START:END", parse=parse_window)
    ] = TRAINING
    """Noise levels at which the adapter is trained, as shares from 0 (clean) to 1."""
    inference_window: Annotated[Window, Option(ADAPTER, metavar="START:END", parse=parse_window)] = INFERENCE
    """Noise levels at which edits use the adapter unless told otherwise, as shares from 0 (clean) to 1."""
    scale: Annotated[float, Range(0.0, 10.0), Option(ADAPTER)] = 0.5
    """How much of the adapter's LoRA edits use unless told otherwise."""
    in_inversion: bool = True
    """Whether it is at work in the inversion too: what another model inverted is not what this one samples back. An
    adapter that learnt from edits began with what the model inverted without it."""

    def __post_init__(self) -> None:
        settle(self)
        if self.lora is None and self.tokens is None:
            raise SettingsError("an adapter needs a LoRA or prompt tokens, got neither.")
