"""Whether a drawn object has the outline that it should have: the best fit of the world's true shapes to a mask.

A classifier says what a drawing is meant to be. How near its outline comes to that of any such shape, turned, sized and
placed as fits best, says whether it is drawn right.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from evenreel.metrics.segmenter import Mask
from evenreel.world import figure
from evenreel.world.scene import SHAPES
from evenreel.world.shapes import SIGNED_DISTANCE

SYMMETRY = {
    "circle": 0,
    "ring": 0,
    "square": 4,
    "cross": 4,
    "triangle": 3,
    "star": 5,
    "diamond": 2,
    "heart": 1,
}
"""Turns after which a shape looks the same again, in a full turn; 0 for any. The figure has 1."""
ANGLE_STEP = math.radians(15)
"""Between angles that a fit starts from."""
POSE_STEP = 2.0
"""Between the figure's poses that a fit starts from, in frames of its step cycle."""
BLOCK = 4
"""Pixels on a side that a fit begins with as one."""
STAGES = ((4, 2.0, 6, 6), (2, 1.2, 5, 2), (1, 0.6, 2, 1))
"""Of a fit: pixels on a side taken as one, softness of the outline in pixels, Gauss-Newton steps, and how many of the
fits of before are followed up."""
DAMPING = 0.03
"""Share of the normal matrix's diagonal that is added to it."""
MOST = (6.0, 6.0, 0.2, 0.25, 1.5)
"""How far one step may go in each parameter."""
LITTLE = 0.1
"""Frames between two poses from which the derivative is taken."""
TOGETHER = 16
"""Masks that are fitted together."""


@dataclass(frozen=True)
class Outlines:
    """The shapes that fit best to masks, one for each."""

    iou: Float[Tensor, " frames"]
    """Intersection over union of shape and mask, both in whole pixels."""
    centre: Float[Tensor, "frames 2"]
    """Where the shape's origin lies: pixels (x, y) from the middle of the picture, to the right and downwards."""
    radius: Float[Tensor, " frames"]
    """The shape's unit, in pixels."""
    angle: Float[Tensor, " frames"]
    """How far it is turned, in radians, clockwise; known up to the shape's symmetry."""
    pose: Float[Tensor, " frames"]
    """Place in the figure's step cycle, in frames; 0 for other shapes."""


Parameters = Float[Tensor, "frames fits 5"]
"""x, y (pixels), logarithm of the radius in pixels, angle (radians), pose (frames)."""


@torch.inference_mode()
def fit_outlines(masks: Mask, shape: str) -> Outlines:
    """Fit a shape of the world to masks: over its place, size and turn, and a figure's pose.

    Starts at many angles (and poses), with area and middle of the mask, and follows the best ones by Gauss-Newton steps
    that lower the squared difference of softened shape and mask; the one with the highest IoU is kept. An empty mask
    has IoU 0.
    """
    if shape not in SHAPES:
        raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}.")
    found = [_fitted(part, shape) for part in masks.float().split(TOGETHER)]
    iou, parameters = (torch.cat(rows) for rows in zip(*found, strict=True))
    return Outlines(
        iou,
        parameters[:, :2],
        parameters[:, 2].exp(),
        parameters[:, 3],
        parameters[:, 4] * (shape == "figure"),
    )


def outline_iou(masks: Mask, shape: str) -> Float[Tensor, " frames"]:
    """Return the highest IoU of each mask with the true outline of a shape, turned, sized and placed as fits best."""
    return fit_outlines(masks, shape).iou


def _fitted(
    masks: Float[Tensor, "frames 1 height width"], shape: str
) -> tuple[Float[Tensor, " frames"], Float[Tensor, "frames 5"]]:
    parameters = _starts(masks, shape)
    for block, softness, steps, kept in STAGES:
        wanted, points = _blocks(masks, block)
        errors = _errors(shape, parameters, wanted, points, softness)
        parameters = _best(parameters, errors, kept)
        for _ in range(steps):
            parameters = _stepped(shape, parameters, wanted, points, softness)
    wanted, points = _blocks(masks, 1)
    inside, wanted = _distance(shape, parameters, points) < 0, (wanted > 0.5)[:, None]
    both, either = (inside & wanted).sum((2, 3)), (inside | wanted).sum((2, 3))
    iou = both / either.clamp_min(1)
    return iou.amax(1), _best(parameters, -iou, 1)[:, 0]


def _best(
    parameters: Parameters, errors: Float[Tensor, "frames fits"], count: int
) -> Float[Tensor, "frames kept 5"]:
    """The `count` fits of each mask that have the smallest errors."""
    best = errors.topk(min(count, errors.shape[1]), largest=False).indices
    return parameters.gather(1, best[..., None].expand(-1, -1, 5))


def _starts(masks: Float[Tensor, "frames 1 height width"], shape: str) -> Parameters:
    """Angles (and poses) all round, with the mask's area and middle; those of one mask follow each other."""
    coarse, points = _blocks(masks, BLOCK)
    weight = coarse.flatten(1)
    total = weight.sum(1).clamp_min(1e-3)
    middle = (weight[..., None] * points.flatten(0, 1)).sum(1) / total[:, None]
    area, offset = area_and_middle(shape)
    radius = (total * BLOCK**2 / area).sqrt()
    angles, poses = _angles(shape, weight, points.flatten(0, 1) - middle[:, None]), _poses(shape)
    cos, sin = angles.cos(), angles.sin()
    turned = torch.stack([cos * offset[0] - sin * offset[1], sin * offset[0] + cos * offset[1]], -1)
    place = middle[:, None] - radius[:, None, None] * turned
    size = radius.log()[:, None, None].expand(-1, angles.shape[1], 1)
    placed = torch.cat([place, size, angles[..., None]], -1)[:, :, None].expand(-1, -1, len(poses), -1)
    pose = poses[None, None, :, None].expand(*placed.shape[:3], 1)
    return torch.cat([placed, pose], -1).flatten(1, 2)


def _angles(
    shape: str, weight: Float[Tensor, "frames places"], offset: Float[Tensor, "frames places 2"]
) -> Float[Tensor, "frames angles"]:
    """Angles to start from: all round, up to the shape's symmetry; of the figure, near its longest axis."""
    if shape != "figure":
        turns = SYMMETRY[shape]
        number = math.ceil(2 * math.pi / turns / ANGLE_STEP) if turns else 1
        return (torch.arange(number) * (2 * math.pi / max(1, turns) / number)).expand(len(weight), -1)
    xx, yy, xy = ((weight * offset[..., i] * offset[..., j]).sum(1) for i, j in ((0, 0), (1, 1), (0, 1)))
    upright = 0.5 * torch.atan2(2 * xy, xx - yy) - math.pi / 2
    return upright[:, None] + torch.tensor(
        [turn + tilt for turn in (0.0, math.pi) for tilt in (-0.25, 0.0, 0.25)]
    )


def _poses(shape: str) -> Float[Tensor, " poses"]:
    return torch.arange(0, figure.STRIDE_FRAMES, POSE_STEP) if shape == "figure" else torch.zeros(1)


@cache
def area_and_middle(shape: str) -> tuple[float, tuple[float, float]]:
    """Return the area in squared radii, and the middle of the mass; of the figure, of a pose in the middle of a
    step."""
    side = torch.linspace(-1.3, 1.3, 261)
    points = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1)[None]
    if shape == "figure":
        inside = figure.signed_distance(points, figure.joints(torch.tensor([2.0]))) < 0
    else:
        inside = SIGNED_DISTANCE[shape](points) < 0
    area = float(inside.sum()) * (2.6 / 260) ** 2
    x, y = points[inside].mean(0).tolist()
    return area, (x, y)


def _blocks(
    masks: Float[Tensor, "frames 1 height width"], block: int
) -> tuple[Float[Tensor, "frames rows columns"], Float[Tensor, "rows columns 2"]]:
    """Shares of squares of `block` pixels, and where their middles are, in pixels from the middle of the picture."""
    height, width = masks.shape[-2:]
    coarse = functional.avg_pool2d(masks, block, ceil_mode=True)[:, 0]
    y = (torch.arange(coarse.shape[1]) + 0.5) * block - height / 2
    x = (torch.arange(coarse.shape[2]) + 0.5) * block - width / 2
    return coarse, torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _distance(
    shape: str, parameters: Parameters, points: Float[Tensor, "rows columns 2"]
) -> Float[Tensor, "frames fits rows columns"]:
    """Signed distance in pixels, negative inside."""
    flat = parameters.flatten(0, 1)
    offset = points - flat[:, None, None, :2]
    radius = flat[:, 2].exp()[:, None, None]
    cos, sin = (f(flat[:, 3])[:, None, None] for f in (torch.cos, torch.sin))
    x, y = offset[..., 0], offset[..., 1]
    own = torch.stack([cos * x + sin * y, cos * y - sin * x], -1) / radius[..., None]
    if shape == "figure":
        distance = figure.signed_distance(own, figure.joints(flat[:, 4]))
    else:
        distance = SIGNED_DISTANCE[shape](own)
    return (distance * radius).unflatten(0, parameters.shape[:2])


def _errors(
    shape: str,
    parameters: Parameters,
    wanted: Float[Tensor, "frames rows columns"],
    points: Float[Tensor, "rows columns 2"],
    softness: float,
) -> Float[Tensor, "frames fits"]:
    """Squared difference of softened shapes and masks."""
    soft = torch.sigmoid(-_distance(shape, parameters, points) / softness)
    return (soft - wanted[:, None]).square().sum((2, 3))


def _stepped(
    shape: str,
    parameters: Parameters,
    wanted: Float[Tensor, "frames rows columns"],
    points: Float[Tensor, "rows columns 2"],
    softness: float,
) -> Parameters:
    """One damped Gauss-Newton step on the squared difference of softened shapes and masks.

    The derivatives follow from the gradient of the distance in the picture: a shape that moves by d has its distance
    moved by d, one that grows has distance and place multiplied, one that turns has its place turned.
    """
    distance = _distance(shape, parameters, points)
    pitch = float(points[0, 1, 0] - points[0, 0, 0])
    down, across = torch.gradient(distance, spacing=pitch, dim=(2, 3))
    offset = points - parameters[:, :, None, None, :2]
    x, y = offset[..., 0], offset[..., 1]
    slopes = [-across, -down, distance - (across * x + down * y), across * y - down * x]
    if shape == "figure":
        later = parameters + torch.tensor([0.0, 0.0, 0.0, 0.0, LITTLE])
        slopes.append((_distance(shape, later, points) - distance) / LITTLE)
    soft = torch.sigmoid(-distance / softness)
    rate = -soft * (1 - soft) / softness
    slope = torch.stack([(rate * one).flatten(2) for one in slopes], 2)
    residual = (soft - wanted[:, None]).flatten(2)
    normal = slope @ slope.mT
    damping = torch.diag_embed(DAMPING * normal.diagonal(dim1=2, dim2=3) + 1e-6)
    change = torch.linalg.solve(normal + damping, slope @ residual[..., None])[..., 0]
    most = torch.tensor(MOST[: change.shape[2]])
    return parameters - functional.pad(change.clamp(-most, most), (0, 5 - change.shape[2]))
