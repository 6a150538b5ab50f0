"""Depth and poses of clips, as ControlNets are shown them, by models of the user's; each is loaded when it is first
asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from evenreel.backbones.depth import DepthFolder, DepthModel, load_depth
from evenreel.backbones.poses import DetectorFolder, PoseFolder, PoseModel, load_poses
from evenreel.errors import SettingsError
from evenreel.files import expanded
from evenreel.ops.skeleton import skeleton
from evenreel.types import Frames

FOLDERS = {"depth_model": DepthFolder, "pose_model": PoseFolder, "person_detector": DetectorFolder}
"""What lies in the folder of each model."""
MAKERS = {"depth": "depth_model", "pose": "pose_model"}
"""For each kind of map the model that makes it."""

Depths = UInt8[Tensor, "frames 1 height width"]
"""Near is white, on one scale for all frames of a scene."""
Sticks = UInt8[Tensor, "frames 3 height width"]
"""People as coloured sticks on black."""


@dataclass(frozen=True, kw_only=True)
class MapModels:
    """Folders in transformers' layout, with safetensors; None for those that are not there."""

    depth_model: str | None = None
    """A Depth Anything."""
    pose_model: str | None = None
    """A ViTPose."""
    person_detector: str | None = None
    """An RT-DETR that tells the ViTPose where people are; without one the whole frame is one person's."""
    device: torch.device | None = None

    @cached_property
    def _depth(self) -> DepthModel:
        assert self.depth_model is not None, "asked only where it is named"
        return load_depth(self.depth_model, device=self.device)

    @cached_property
    def _poses(self) -> PoseModel:
        assert self.pose_model is not None, "asked only where it is named"
        return load_poses(self.pose_model, self.person_detector, device=self.device)

    def forget(self) -> None:
        """Let go of what is loaded."""
        for name in ("_depth", "_poses"):
            self.__dict__.pop(name, None)

    def fingerprints(self, kind: str | None = None) -> dict[str, str]:
        """Return the hash of each model that is named, or of those for one kind of maps, by the name of its setting.

        Raises: WeightsError for a folder that is not such a model, or not whole.
        """
        found: dict[str, str] = {}
        for name in FOLDERS if kind is None else _asked(kind):
            if (place := getattr(self, name)) is not None:
                folder = FOLDERS[name](expanded(place))
                folder.check()
                found[name] = folder.fingerprint
        return found

    def makes(self, kind: str) -> bool:
        """Return whether the model is named that makes maps of a kind."""
        return kind in MAKERS and getattr(self, MAKERS[kind]) is not None

    def nearness(self, frames: Frames) -> Float[Tensor, "frames height width"]:
        """Return how near things are, in the model's own units; frame by frame, whatever the window."""
        return torch.cat([self._depth.nearness(frame) for frame in frames.split(1)])

    def sticks(self, frames: Frames) -> tuple[Sticks, Bool[Tensor, " frames"]]:
        """Draw the people of each frame, and return whether anybody is seen in it."""
        people = [self._poses.people(frame) for frame in frames.split(1)]
        size = (frames.shape[2], frames.shape[3])
        drawn = torch.cat([skeleton(one[None], size) for one in people])
        return drawn, torch.tensor([len(one) > 0 for one in people])

    def control_maps(self, frames: Frames, kind: str) -> Frames:
        """Return what a ControlNet of a kind is shown of a clip of one scene, (frames 3 height width): for `canny` the
        frames, whose edges are found later; depth on one scale for the whole clip, near is white.

        Raises: SettingsError where it takes a model that is not named.
        """
        if kind == "canny":
            return frames
        if not self.makes(kind):
            raise SettingsError(f"maps of kind {kind} take a model of yours; name it, or leave them out.")
        if kind == "depth":
            return levels(self.nearness(frames)).expand(-1, 3, -1, -1).float() / 255
        return self.sticks(frames)[0].float() / 255


def levels(near: Float[Tensor, "frames height width"], scenes: Sequence[slice] = (slice(None),)) -> Depths:
    """Return depth as ControlNets are shown it: from 0, the farthest place of a scene, to 255, its nearest one.

    A scene where all is equally far is 0 throughout.
    """
    made = torch.zeros(near.shape[0], 1, *near.shape[1:], dtype=torch.uint8)
    for part in scenes:
        low = min(float(frame.min()) for frame in near[part])
        high = max(float(frame.max()) for frame in near[part])
        if high > low:
            for frame, level in zip(near[part], made[part], strict=True):
                level[0] = ((frame - low) / (high - low) * 255).round().to(torch.uint8)
    return made


def _asked(kind: str) -> tuple[str, ...]:
    return {"depth": ("depth_model",), "pose": ("pose_model", "person_detector")}.get(kind, ())
