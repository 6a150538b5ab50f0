"""People as coloured sticks, as OpenPose draws them and ControlNets for poses are shown them (arXiv:1812.08008)."""

import colorsys

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

KEYPOINTS = (
    *("nose", "neck"),
    *("right shoulder", "right elbow", "right wrist"),
    *("left shoulder", "left elbow", "left wrist"),
    *("right hip", "right knee", "right ankle"),
    *("left hip", "left knee", "left ankle"),
    *("right eye", "left eye", "right ear", "left ear"),
)
"""OpenPose's 18 keypoints, in its order."""
LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7)),
    *((1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
"""Pairs of keypoints, in the order in which they are drawn."""
DIMMED = 0.6
"""Brightness of limbs; joints, which are drawn on them, have all of it."""
THICKNESS = 128
"""A stick's radius is this part of the picture's shorter side: 4 pixels of 512."""


def colour_of(number: int) -> tuple[float, float, float]:
    """Return red, green and blue in [0, 1] of a limb or joint: the colour circle in 18 steps, from red."""
    return colorsys.hsv_to_rgb(number / len(KEYPOINTS), 1.0, 1.0)


@torch.no_grad()
def skeleton(
    points: Float[Tensor, "frames people keypoints 2"], size: tuple[int, int]
) -> UInt8[Tensor, "frames 3 height width"]:
    """Draw people on black; `size` is (height, width).

    `points` are (x, y) in pixels from the upper left corner, in the order of KEYPOINTS (or its first ones); NaN is a
    keypoint that is not seen, and neither it nor its limbs are drawn.
    """
    height, width = size
    points = points.float()
    radius = max(1.0, min(size) / THICKNESS)
    x = torch.arange(width, device=points.device) + 0.5
    y = torch.arange(height, device=points.device)[:, None] + 0.5
    picture = points.new_zeros(len(points), 3, height, width)

    def draw(start: Tensor, end: Tensor, colour: Tensor) -> None:
        """Paint what lies within the radius of segments (frames people 2)."""
        nonlocal picture
        axis = end - start
        length = axis.square().sum(-1).clamp(min=1e-12)
        (ax, ay), (sx, sy) = ((each[..., 0, None, None], each[..., 1, None, None]) for each in (axis, start))
        along = (((x - sx) * ax + (y - sy) * ay) / length[..., None, None]).clamp(0, 1)
        away = (x - sx - along * ax).square() + (y - sy - along * ay).square()
        painted = (away <= radius**2).any(1, keepdim=True)  # NaN is not within it
        picture = torch.where(painted, colour[:, None, None], picture)

    colours = points.new_tensor([colour_of(number) for number in range(len(KEYPOINTS))])
    for number, (start, end) in enumerate(LIMBS):
        if max(start, end) < points.shape[2]:
            draw(points[:, :, start], points[:, :, end], DIMMED * colours[number])
    for number in range(points.shape[2]):
        draw(points[:, :, number], points[:, :, number], colours[number])
    return (picture * 255).round().to(torch.uint8)
