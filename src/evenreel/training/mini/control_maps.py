"""What ControlNets of the mini model are shown: exact depth, edges and joints of the world's pictures.

Workers write depth and joints beside the pictures that they render; edges are found on the training's device.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from evenreel.errors import SettingsError
from evenreel.ops.edges import canny
from evenreel.ops.nearness import nearness
from evenreel.ops.skeleton import skeleton
from evenreel.training.mini.pictures import SIZE, as_bytes
from evenreel.world import Scene, keypoints
from evenreel.world.figure import OPENPOSE

KINDS = ("depth", "canny", "pose")
OBJECTS = 2
"""The most that a scene has."""
JOINTS = OPENPOSE.index(None)
"""Joints of a figure: OpenPose's without eyes and ears."""


def joints_of(scene: Scene, frames: Sequence[int]) -> np.ndarray:
    """Return where joints are, (frames OBJECTS JOINTS 2), in pixels; NaN for what is not there."""
    found = keypoints(scene, frames, SIZE)[:, :, :JOINTS].numpy()
    joints = np.full((len(frames), OBJECTS, JOINTS, 2), np.nan, dtype=np.float32)
    joints[:, : found.shape[1]] = found
    return joints


class ControlSlots:
    """Memory maps of depth and joints, with a slot for each chunk of scenes that is under way."""

    def __init__(self, folder: Path, slots: int, scenes: int, frames: int) -> None:
        self._depth, self._joints = folder / "depth.npy", folder / "joints.npy"
        self._shape = slots, scenes, frames

    def make(self) -> None:
        """Make the maps."""
        for path, kind, shape in (
            (self._depth, np.uint8, (1, SIZE, SIZE)),
            (self._joints, np.float32, (OBJECTS, JOINTS, 2)),
        ):
            np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(*self._shape, *shape)).flush()

    def write(self, slot: int, index: int, scene: Scene, frames: Sequence[int], depth: Tensor) -> None:
        """Keep what is known of a scene, whose depth (frames 1 SIZE SIZE) was rendered."""
        np.load(self._depth, mmap_mode="r+")[slot, index] = as_bytes(nearness(depth))
        np.load(self._joints, mmap_mode="r+")[slot, index] = joints_of(scene, frames)

    def read(self, slot: int) -> tuple[Tensor, Tensor]:
        """Read depth and joints of a chunk."""
        depth, joints = (np.array(np.load(path, mmap_mode="r")[slot]) for path in (self._depth, self._joints))
        return torch.from_numpy(depth), torch.from_numpy(joints)


class SceneControls:
    """Depth and edges (scenes frames 1 SIZE SIZE) and joints on a device, of the scenes taken in so far."""

    def __init__(self, scenes: int, frames: int, device: torch.device) -> None:
        shape = scenes, frames, 1, SIZE, SIZE
        self.tensors = {
            "depth": torch.zeros(shape, dtype=torch.uint8, device=device),
            "canny": torch.zeros(shape, dtype=torch.uint8, device=device),
            "joints": torch.full((scenes, frames, OBJECTS, JOINTS, 2), torch.nan, device=device),
        }
        """As they are written into a cached file."""
        self._people: Tensor | None = None

    def take(self, first: int, pictures: Tensor, depth: Tensor, joints: Tensor) -> None:
        """Keep a chunk: of bytes on the device, (scenes frames 3 SIZE SIZE)."""
        device, rows = self.tensors["joints"].device, slice(first, first + len(pictures))
        edges = torch.cat([canny(part.float() / 255) for part in pictures.flatten(0, 1).split(256)])
        self.tensors["canny"][rows] = edges.view(*pictures.shape[:2], 1, SIZE, SIZE).byte() * 255
        self.tensors["depth"][rows] = depth[: len(pictures)].to(device)
        self.tensors["joints"][rows] = joints[: len(pictures)].to(device)
        self._people = None

    @property
    def people(self) -> Tensor:
        """Numbers of the scenes that show a figure. Raises: SettingsError where there are none."""
        if self._people is None:
            seen = self.tensors["joints"][:, 0, :, 0, 0].isfinite().any(1)
            self._people = seen.nonzero()[:, 0]
        if not len(self._people):
            raise SettingsError(
                "none of the scenes shows a person, so no poses can be trained on them; give more scenes."
            )
        return self._people

    def maps(self, kind: str, rows: Tensor, frames: Tensor) -> UInt8[Tensor, "pictures 3 height width"]:
        """Return what a ControlNet of one of KINDS is shown of some frames of scenes."""
        if kind == "pose":
            return skeleton(self.tensors["joints"][rows, frames], (SIZE, SIZE))
        return self.tensors[kind][rows, frames].expand(-1, 3, -1, -1)
