"""Shapes as signed distances: negative inside, in units of the shape's radius, y downwards."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Points = Float[Tensor, "frames height width 2"]
Distance = Float[Tensor, "frames height width"]


def circle(p: Points) -> Distance:
    """Return the signed distance to a disc."""
    return p.norm(dim=-1) - 0.92


def ring(p: Points) -> Distance:
    """Return the signed distance to a ring."""
    return (p.norm(dim=-1) - 0.68).abs() - 0.26


def box(p: Points, half_width: float, half_height: float) -> Distance:
    """Return the signed distance to an axis-aligned box about the origin."""
    x, y = p[..., 0].abs() - half_width, p[..., 1].abs() - half_height
    outside = torch.hypot(x.clamp(min=0), y.clamp(min=0))
    return outside + torch.maximum(x, y).clamp(max=0)


def square(p: Points) -> Distance:
    """Return the signed distance to a square that stands on a side."""
    return box(p, 0.76, 0.76)


def cross(p: Points) -> Distance:
    """Return the signed distance to two bars that cross."""
    return torch.minimum(box(p, 0.95, 0.3), box(p, 0.3, 0.95))


def diamond(p: Points) -> Distance:
    """Return a rhombus clearly taller than wide: a turned square is not a diamond."""
    width, height = 0.6, 1.05
    edge = math.hypot(width, height)
    return (p[..., 0].abs() * height + p[..., 1].abs() * width - width * height) / edge


def triangle(p: Points) -> Distance:
    """Return the signed distance to a triangle of equal sides that points upwards."""
    x, y = p[..., 0].abs(), p[..., 1] - 0.15
    return torch.maximum(x * math.cos(math.pi / 6) - y * 0.5, y) - 0.55


def star(p: Points) -> Distance:
    """Return the signed distance to a star of five points: the plane is folded on to one half point, which is bounded
    by a single line."""
    outer, inner, sector = 1.05, 0.46, math.pi / 5
    radius, angle = p.norm(dim=-1), torch.atan2(p[..., 0], -p[..., 1])
    angle = (torch.remainder(angle + sector, 2 * sector) - sector).abs()
    x, y = radius * angle.sin(), radius * angle.cos()
    corner = (inner * math.sin(sector), inner * math.cos(sector))
    edge = (corner[0], corner[1] - outer)
    length = math.hypot(*edge)
    return (x * -edge[1] + (y - outer) * edge[0]) / length


def heart(p: Points) -> Distance:
    """Return a square standing on its corner with a half disc on each upper side."""
    half = 0.5
    x, y = p[..., 0].abs(), p[..., 1] - 0.14
    turned = torch.stack([(x + y) / math.sqrt(2), (x - y) / math.sqrt(2)], dim=-1)
    disc = torch.hypot(turned[..., 0], turned[..., 1] - half) - half
    return torch.minimum(box(turned, half, half), disc)


SIGNED_DISTANCE: dict[str, Callable[[Points], Distance]] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "heart": heart,
    "ring": ring,
    "cross": cross,
    "diamond": diamond,
}
"""All rigid shapes; the jointed one is in `figure`."""
