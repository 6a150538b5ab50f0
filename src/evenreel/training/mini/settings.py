"""What a training of the packaged model can be told beside the loops of its parts."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from evenreel.errors import SettingsError, argument
from evenreel.settings import NotEmpty, Option, settle
from evenreel.training.loop_settings import TRAINING
from evenreel.training.mini.recipe import CONTROLS, MiniRecipe

PARTS = tuple(MiniRecipe().parts)
"""All parts, in the order in which they need each other."""
TRAINED = tuple(part for part in PARTS if part not in CONTROLS[1:])
"""Those that are trained where none is named."""


def parse_parts(name: str, told: list[str]) -> tuple[str, ...]:
    """Return names with commas between them."""
    del name
    return tuple(part.strip() for part in ",".join(told).split(",") if part.strip())


@dataclass(frozen=True, kw_only=True)
class MiniTrainingSettings:
    """Which parts are trained, from what, and where; how each is trained its recipe says."""

    whose: ClassVar[str] = "a training"

    parts: Annotated[
        tuple[str, ...], Option(metavar="PART,PART", default=",".join(TRAINED), parse=parse_parts)
    ] = TRAINED
    """Parts to train, comma-separated; each needs those before it."""
    start: Annotated[
        str | None, NotEmpty(), Option(metavar="FOLDER|mini", flags=("--from",), default="nothing")
    ] = None
    """Finished model to go on from, a folder or `mini`; its weights are taken, the optimizer begins anew."""
    device: Annotated[str, NotEmpty(), Option(TRAINING)] = "auto"
    """Device to train on, or with --report to measure on: auto, cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        settle(self)
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or not self.parts:
            raise SettingsError(
                f"{argument('parts')} must name some of {', '.join(PARTS)}, comma-separated, "
                f"got {','.join(unknown) or 'none'}."
            )
