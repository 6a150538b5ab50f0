"""Colours, textures that stick to objects, and backgrounds made of smooth noise and sines.

Every pattern is a function of continuous coordinates, so it is the same at any resolution and moves exactly with what
it is painted on. Contrasts are gentle on purpose: a small autoencoder has to be able to keep them.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.world.shapes import Points

Colours = Float[Tensor, "frames height width 3"]
Value = Float[Tensor, "frames height width"]

RGB = {
    "red": (0.88, 0.12, 0.12),
    "orange": (0.98, 0.55, 0.05),
    "yellow": (0.98, 0.90, 0.10),
    "green": (0.05, 0.62, 0.22),
    "blue": (0.10, 0.28, 0.90),
    "purple": (0.50, 0.12, 0.68),
    "pink": (1.00, 0.55, 0.75),
    "white": (0.97, 0.97, 0.97),
}


def noise(
    p: Points, generator: torch.Generator, frequency: float, stretch: tuple[float, float] = (1.0, 1.0)
) -> Value:
    """Return smooth noise in about [-1, 1]: eight sines of random direction and phase."""
    count = 8
    angle = torch.rand(count, generator=generator) * 2 * math.pi
    pitch = frequency * (0.6 + 0.8 * torch.rand(count, generator=generator))
    phase = torch.rand(count, generator=generator) * 2 * math.pi
    waves = torch.stack([angle.cos() * pitch * stretch[0], angle.sin() * pitch * stretch[1]])
    return (p @ waves + phase).sin().sum(-1) / math.sqrt(4 * count)


def _ramp(value: Value, low: tuple[float, ...], high: tuple[float, ...]) -> Colours:
    """Blend of two colours: `low` at 0, `high` at 1."""
    a, b = torch.tensor(low), torch.tensor(high)
    return a + value.clamp(0, 1)[..., None] * (b - a)


def grass(p: Points, g: torch.Generator) -> Colours:
    """Colour points as uneven grass."""
    return _ramp(0.5 + 0.35 * noise(p, g, 5.0, (2.0, 0.7)), (0.20, 0.45, 0.12), (0.46, 0.72, 0.28))


def sand(p: Points, g: torch.Generator) -> Colours:
    """Colour points as sand with ripples."""
    ripples = (p[..., 1] * 14 + 1.5 * noise(p, g, 2.5)).sin()
    return _ramp(0.5 + 0.4 * ripples, (0.80, 0.68, 0.45), (0.93, 0.84, 0.62))


def water(p: Points, g: torch.Generator) -> Colours:
    """Colour points as water with waves."""
    waves = (p[..., 1] * 9 + 2.0 * noise(p, g, 3.0, (1.0, 0.4))).sin()
    return _ramp(0.5 + 0.4 * waves, (0.10, 0.42, 0.62), (0.32, 0.68, 0.80))


def night_sky(p: Points, g: torch.Generator) -> Colours:
    """Colour points dark blue with one soft star in about half the cells of a jittered grid."""
    cell = 0.42
    shift = torch.rand(2, generator=g) * 100
    index = torch.floor(p / cell)
    hashed = torch.stack(
        [
            torch.remainder(torch.sin(index @ torch.tensor(k) + shift[0]) * 437.5, 1.0)
            for k in ((12.99, 78.23), (39.35, 11.14))
        ],
        -1,
    )
    centre = (index + 0.25 + 0.5 * hashed) * cell
    bright = torch.exp(-(((p - centre).norm(dim=-1) / 0.035) ** 2)) * (hashed[..., 0] > 0.45)
    base = _ramp(0.5 + 0.4 * noise(p, g, 2.0), (0.03, 0.04, 0.16), (0.10, 0.10, 0.30))
    return base + 0.75 * bright[..., None] * (1 - base)


def snow(p: Points, g: torch.Generator) -> Colours:
    """Colour points as uneven snow."""
    return _ramp(0.5 + 0.4 * noise(p, g, 3.0), (0.82, 0.88, 0.96), (0.97, 0.98, 1.0))


def bricks(p: Points, g: torch.Generator) -> Colours:
    """Colour points as a wall of bricks in rows, each moved by half a brick."""
    width, height, joint = 0.62, 0.3, 0.022
    row = torch.floor(p[..., 1] / height)
    x = torch.remainder(p[..., 0] + 0.5 * width * torch.remainder(row, 2), width) - width / 2
    y = torch.remainder(p[..., 1], height) - height / 2
    to_joint = torch.minimum(width / 2 - x.abs(), height / 2 - y.abs())
    face = _ramp(0.5 + 0.4 * noise(p, g, 4.0), (0.52, 0.25, 0.18), (0.68, 0.36, 0.26))
    mortar = torch.sigmoid((joint - to_joint) / 0.012)[..., None]
    return face + mortar * (torch.tensor([0.74, 0.70, 0.64]) - face)


def wood(p: Points, g: torch.Generator) -> Colours:
    """Colour points as wood with upright grain."""
    grain = (p[..., 0] * 10 + 3.0 * noise(p, g, 2.0, (1.0, 0.25))).sin()
    return _ramp(0.5 + 0.4 * grain, (0.36, 0.22, 0.11), (0.56, 0.38, 0.20))


def clouds(p: Points, g: torch.Generator) -> Colours:
    """Colour points as clouds in a blue sky."""
    puffs = torch.sigmoid(5 * noise(p, g, 3.2, (0.8, 1.3)))
    return _ramp(puffs, (0.42, 0.66, 0.94), (0.96, 0.97, 1.0))


BACKGROUND: dict[str, Callable[[Points, torch.Generator], Colours]] = {
    "grass": grass,
    "sand": sand,
    "water": water,
    "night sky": night_sky,
    "snow": snow,
    "bricks": bricks,
    "wood": wood,
    "clouds": clouds,
}


def texture(name: str, p: Points, softness: float) -> Value:
    """Return the share of the darker second colour at object coordinates; `softness` is the width of a pixel there."""

    def edge(distance: Value) -> Value:
        return (0.5 - distance / softness).clamp(0, 1)

    if name == "plain":
        return torch.zeros_like(p[..., 0])
    if name == "striped":
        return edge(0.125 - (torch.remainder(p[..., 0] + p[..., 1], 0.5) - 0.25).abs())
    if name == "dotted":
        return edge((torch.remainder(p, 0.5) - 0.25).norm(dim=-1) - 0.15)
    cells = torch.floor(p / 0.42).sum(-1)
    return torch.remainder(cells, 2)
