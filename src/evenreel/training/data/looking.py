"""What models of the user's say of clips: depth, joints and captions; each is loaded when it is first asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evenreel.training.data.settings import LookingSettings
from evenreel.training.data.sources import cleaned
from evenreel.types import Frames, Pixels

if TYPE_CHECKING:
    from evenreel.backbones.depth import Nearness
    from evenreel.backbones.language import Captioner, Reworder
    from evenreel.backbones.map_models import MapModels

CAPTIONED_AT = (0.25, 0.5, 0.75)
"""Where in a clip its captions are made, as shares of its length."""


@dataclass(frozen=True)
class Models:
    """The models of a build."""

    settings: LookingSettings

    @cached_property
    def maps(self) -> "MapModels":
        """Those that make maps."""
        from evenreel.backbones.map_models import MapModels

        told = self.settings
        return MapModels(
            depth_model=told.depth_model and str(told.depth_model),
            pose_model=told.pose_model and str(told.pose_model),
            person_detector=told.person_detector and str(told.person_detector),
        )

    @cached_property
    def _captioner(self) -> "Captioner | None":
        from evenreel.backbones.language import load_captioner

        return _loaded(load_captioner, self.settings.captioner_model)

    @cached_property
    def _reworder(self) -> "Reworder | None":
        from evenreel.backbones.language import load_reworder

        return _loaded(load_reworder, self.settings.rewording_model)

    def nearness(self, pixels: Pixels) -> "Nearness | None":
        """Return how near things are in one frame, in the model's own units; None without a model."""
        return self.maps.nearness(_frames(pixels)) if self.settings.depth_model is not None else None

    def pose(self, pixels: Pixels) -> tuple[Any, bool] | None:
        """Return people as sticks (height width 3, bytes), and whether anybody is seen; None without a model."""
        if self.settings.pose_model is None:
            return None
        drawn, seen = self.maps.sticks(_frames(pixels))
        return drawn[0].movedim(0, -1).numpy(), bool(seen[0])

    def captions(self, frames: Sequence[Pixels]) -> tuple[str, ...]:
        """Return what frames show, each sentence once. Needs a model that captions."""
        assert self._captioner is not None, "clips without captions are left out where no model makes them"
        return cleaned([self._captioner.caption(_frames(pixels)) for pixels in frames])

    def reword(self, captions: Sequence[str], count: int) -> list[str]:
        """Return at most `count` other wordings of each caption. Needs a model that rewords."""
        assert self._reworder is not None, "asked only where a model is named"
        found = cleaned([text for caption in captions for text in self._reworder.reworded(caption, count)])
        return [text for text in found if text not in captions]


@lru_cache(maxsize=1)
def opened(settings: LookingSettings) -> Models:
    """Return the models of some settings, the same ones again in a process that makes several shards."""
    return Models(settings)


def fingerprints(settings: LookingSettings) -> dict[str, str]:
    """Return the hash of each model that is named, by the name of its setting. Raises: WeightsError for a folder that
    is not such a model, or not whole."""
    from evenreel.backbones import language
    from evenreel.files import expanded

    found = Models(settings).maps.fingerprints()
    kinds = {"captioner_model": language.CaptionerFolder, "rewording_model": language.CausalFolder}
    for name, place in settings.named.items():
        if name in kinds:
            folder = kinds[name](expanded(str(place)))
            folder.check()
            found[name] = folder.fingerprint
    return found


def _loaded(load: Callable[[str], Any], folder: Path | None) -> Any:
    return None if folder is None else load(str(folder))


def _frames(pixels: Pixels) -> Frames:
    return pixels.movedim(-1, 1).to(torch.float32) / 255
