"""What models of the user's say of clips: depth, joints and captions; each is loaded when it is first asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evenreel.errors import SettingsError
from evenreel.ops.skeleton import skeleton
from evenreel.training.data.settings import LookingSettings
from evenreel.training.data.sources import cleaned
from evenreel.types import Frames, Pixels

if TYPE_CHECKING:
    from evenreel.backbones.depth import DepthModel, Nearness
    from evenreel.backbones.language import Captioner, Reworder
    from evenreel.backbones.poses import PoseModel

CAPTIONED_AT = (0.25, 0.5, 0.75)
"""Where in a clip its captions are made, as shares of its length."""


@dataclass(frozen=True)
class Models:
    """The models of a build."""

    settings: LookingSettings

    @cached_property
    def _depth(self) -> "DepthModel | None":
        from evenreel.backbones.depth import load_depth

        return _loaded(load_depth, self.settings.depth_model)

    @cached_property
    def _poses(self) -> "PoseModel | None":
        from evenreel.backbones.poses import load_poses

        detector = self.settings.person_detector
        return _loaded(
            lambda folder: load_poses(folder, detector and str(detector)), self.settings.pose_model
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
        return None if self._depth is None else self._depth.nearness(_frames(pixels))

    def pose(self, pixels: Pixels) -> tuple[Any, bool] | None:
        """Return people as sticks (height width 3, bytes), and whether anybody is seen; None without a model."""
        if self._poses is None:
            return None
        people = self._poses.people(_frames(pixels))
        return skeleton(people[None], (pixels.shape[1], pixels.shape[2]))[0].movedim(0, -1).numpy(), len(
            people
        ) > 0

    def control_maps(self, frames: Frames, kind: str) -> Frames:
        """Return what a ControlNet of a kind is shown of a clip, (frames 3 height width): for `canny` the frames, whose
        edges are found later; depth on one scale for the whole clip, near is white.

        Raises: SettingsError where it takes a model that is not named.
        """
        if kind == "canny":
            return frames
        pixels = (frames.movedim(1, -1) * 255).round().to(torch.uint8)
        if kind == "depth" and self._depth is not None:
            near = self._depth.nearness(frames)[:, None]
            return ((near - near.min()) / (near.max() - near.min()).clamp(min=1e-12)).expand(-1, 3, -1, -1)
        if kind == "pose" and self._poses is not None:
            drawn = [self.pose(pixels[number : number + 1]) for number in range(len(pixels))]
            return (
                torch.stack([torch.from_numpy(one[0]) for one in drawn if one is not None]).movedim(-1, 1)
                / 255
            )
        raise SettingsError(f"maps of kind {kind} take a model of yours; name it, or leave them out.")

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
    from evenreel.backbones import depth, language, poses
    from evenreel.files import expanded

    kinds = {
        "depth_model": depth.DepthFolder,
        "pose_model": poses.PoseFolder,
        "person_detector": poses.DetectorFolder,
        "captioner_model": language.CaptionerFolder,
        "rewording_model": language.CausalFolder,
    }
    found: dict[str, str] = {}
    for name, place in settings.named.items():
        folder = kinds[name](expanded(str(place)))
        folder.check()
        found[name] = folder.fingerprint
    return found


def _loaded(load: Callable[[str], Any], folder: Path | None) -> Any:
    return None if folder is None else load(str(folder))


def _frames(pixels: Pixels) -> Frames:
    return pixels.movedim(-1, 1).to(torch.float32) / 255
