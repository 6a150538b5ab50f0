"""Where people's joints are in single frames: a ViTPose (arXiv:2204.12484), and a detector that tells where people are.

Joints come out in OpenPose's order, as `ops.skeleton` draws them and ControlNets for poses are shown them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from evenreel.backbones.devices import choose_device
from evenreel.backbones.folder import PartFolder
from evenreel.backbones.safetensors_file import read_header
from evenreel.backbones.vision import IMAGENET_MEAN, IMAGENET_STD, Resized, normalised, resized
from evenreel.backbones.weights import load_part
from evenreel.errors import WeightsError
from evenreel.files import expanded
from evenreel.types import Frames

COCO_OF_OPENPOSE = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""For each of OpenPose's 18 keypoints its number among COCO's 17; None is the neck, half-way between the shoulders."""
JOINTS = 17
"""COCO's."""
SURE = 0.3
"""Height of a heat map from which a joint counts as seen, as the published demos have it."""
MARGIN = 1.25
"""What a box is enlarged by before it is cut out, as the model was trained."""
DETECTOR_SIZE = 640
"""Side of the squares that an RT-DETR sees."""
PERSON_SURE = 0.5
MOST_PEOPLE = 20

Boxes = Float[Tensor, "people 4"]
"""Left, top, right, bottom in pixels."""
People = Float[Tensor, "people 18 2"]
"""(x, y) of each joint in pixels from the middle of the upper left pixel; NaN where it is not seen."""


class PoseFolder(PartFolder):
    """A ViTPose in transformers' layout: the folder holds config.json and model.safetensors."""

    gigabytes = 0.4

    parts: Mapping[str, tuple[str, str]] = MappingProxyType({"": ("VitPoseForPoseEstimation", "model")})
    wanted = "a ViTPose, for example usyd-community/vitpose-base-simple"


class DetectorFolder(PartFolder):
    """An RT-DETR in transformers' layout: the folder holds config.json and model.safetensors."""

    gigabytes = 0.2

    parts: Mapping[str, tuple[str, str]] = MappingProxyType({"": ("RTDetrForObjectDetection", "model")})
    wanted = "an RT-DETR that knows people, for example PekingU/rtdetr_r50vd_coco_o365"

    def _check_weights(self) -> None:
        # its convolutions count their batches, which are the only whole numbers
        for file in self.weight_files(""):
            header = read_header(file)
            header.check_floats(name for name in header.tensors if not name.endswith(".num_batches_tracked"))


class PersonDetector:
    """An RT-DETR that tells where people are (arXiv:2304.08069)."""

    def __init__(self, folder: DetectorFolder, *, device: torch.device) -> None:
        """Load it, in float32. Raises: WeightsError."""
        from transformers import RTDetrForObjectDetection

        folder.check()
        self.fingerprint = folder.fingerprint
        self._device = device
        self._model = load_part(folder, "", RTDetrForObjectDetection, device, torch.float32)
        names: dict[int, str] = self._model.config.id2label
        self._people = [number for number, name in names.items() if name.lower() == "person"]
        if not self._people:
            raise WeightsError(f"{folder.path}: knows nothing called a person; use {folder.wanted}.")

    @torch.inference_mode()
    def boxes(self, frame: Frames) -> Boxes:
        """Return where people are in one frame (1 3 height width), the surest first, at most MOST_PEOPLE."""
        height, width = frame.shape[2:]
        seen = resized(frame, (DETECTOR_SIZE, DETECTOR_SIZE), "bilinear").to(self._device)
        found: Any = self._model(seen)
        sure = found.logits[0].sigmoid()[:, self._people].amax(1).float().cpu()
        order = sure.argsort(descending=True, stable=True)[:MOST_PEOPLE]
        x, y, across, down = found.pred_boxes[0].float().cpu()[order[sure[order] > PERSON_SURE]].unbind(1)
        edges = torch.stack([x - across / 2, y - down / 2, x + across / 2, y + down / 2], dim=1)
        return edges.clamp(0, 1) * torch.tensor([width, height, width, height])


class PoseModel:
    """A ViTPose, and where people are, if a detector tells."""

    def __init__(
        self, folder: PoseFolder, *, device: torch.device, detector: PersonDetector | None = None
    ) -> None:
        """Load it, in float32. Without a `detector` the whole frame is one person's. Raises: WeightsError."""
        from transformers import VitPoseForPoseEstimation

        folder.check()
        self.fingerprint = folder.fingerprint
        self._device, self._detector = device, detector
        self._model = load_part(folder, "", VitPoseForPoseEstimation, device, torch.float32)
        seen = self._model.config.backbone_config
        self._size: tuple[int, int] = tuple(seen.image_size)  # height, width
        # those of several kinds of data have experts: 0 are COCO's
        self._experts = getattr(seen, "num_experts", 1) > 1
        if (joints := self._model.config.num_labels) != JOINTS:
            raise WeightsError(f"{folder.path}: knows {joints} joints, not COCO's 17; use {folder.wanted}.")

    @torch.inference_mode()
    def people(self, frame: Frames) -> People:
        """Return the joints of people in one frame (1 3 height width); nobody of whom no joint is seen."""
        height, width = frame.shape[2:]
        whole = torch.tensor([[0.0, 0.0, width, height]])
        boxes = whole if self._detector is None else self._detector.boxes(frame)
        if not len(boxes):
            return torch.empty(0, len(COCO_OF_OPENPOSE), 2)
        cut = torch.stack([self._widened(box) for box in boxes])
        pictures = normalised(
            torch.cat([cropped(frame, box, self._size) for box in cut]), IMAGENET_MEAN, IMAGENET_STD
        )
        options = {"dataset_index": torch.zeros(len(cut), dtype=torch.long)} if self._experts else {}
        heat = self._model(pictures.to(self._device), **options).heatmaps.float().cpu()
        places, sure = peaks(heat)
        cells = torch.tensor([heat.shape[3] - 1, heat.shape[2] - 1])
        points = cut[:, None, :2] + places / cells * (cut[:, None, 2:] - cut[:, None, :2])
        points[sure < SURE] = torch.nan
        found = as_openpose(points)
        return found[~found.isnan().all(2).all(1)]

    def _widened(self, box: Float[Tensor, "4"]) -> Float[Tensor, "4"]:
        """A box with the shape of what the model sees, and a margin, around the same middle."""
        middle, (across, down) = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).tolist()
        shape = self._size[1] / self._size[0]
        across, down = max(across, down * shape), max(down, across / shape)
        half = MARGIN / 2 * torch.tensor([across, down])
        return torch.cat([middle - half, middle + half])


def cropped(frame: Frames, box: Float[Tensor, "4"], size: tuple[int, int]) -> Resized:
    """Return what lies in a box (left, top, right, bottom), at a (height, width); black beyond the frame.

    The first and the last pixel lie on the box's edges (unbiased data processing, arXiv:1911.07524).
    """
    rows, columns = size
    x = torch.linspace(float(box[0]), float(box[2]), columns) / (frame.shape[3] - 1) * 2 - 1
    y = torch.linspace(float(box[1]), float(box[3]), rows) / (frame.shape[2] - 1) * 2 - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
    return grid_sample(frame, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def peaks(
    heat: Float[Tensor, "people joints rows columns"],
) -> tuple[Float[Tensor, "people joints 2"], Float[Tensor, "people joints"]]:
    """Return where heat maps are highest, (x, y) in cells, and how high.

    Between cells by a parabola through the logarithm, which is exact for a Gaussian (DARK, arXiv:1910.06278, one axis
    at a time and without its blur); at the border the cell itself.
    """
    rows, columns = heat.shape[2:]
    high, at = heat.flatten(2).max(2)
    y, x = at // columns, at % columns

    def shift(place: Tensor, most: int, neighbour: int) -> Tensor:
        inside = (place > 0) & (place < most - 1)
        logs = [
            heat.flatten(2).gather(2, (at + step * neighbour).clamp(0, rows * columns - 1)[..., None])[..., 0]
            for step in (-1, 0, 1)
        ]
        before, middle, after = (value.clamp(min=1e-10).log() for value in logs)
        curve = before - 2 * middle + after
        moved = torch.where(curve < 0, (before - after) / (2 * curve.clamp(max=-1e-10)), 0.0)
        return torch.where(inside, moved.clamp(-0.5, 0.5), 0.0)

    return torch.stack([x + shift(x, columns, 1), y + shift(y, rows, columns)], dim=-1), high


def as_openpose(points: Float[Tensor, "people 17 2"]) -> People:
    """Return COCO's joints in OpenPose's order; the neck is half-way between the shoulders, where both are seen."""
    neck = (points[:, 5] + points[:, 6]) / 2
    return torch.stack([neck if number is None else points[:, number] for number in COCO_OF_OPENPOSE], dim=1)


def load_poses(
    location: str, detector: str | None = None, *, device: str | torch.device | None = None
) -> PoseModel:
    """Load a ViTPose, and an RT-DETR if one is named, from folders in transformers' layout, safetensors only.

    Raises: WeightsError.
    """
    chosen = choose_device(device)
    people = None if detector is None else PersonDetector(DetectorFolder(expanded(detector)), device=chosen)
    return PoseModel(PoseFolder(expanded(location)), device=chosen, detector=people)
