"""What a clip of the world shows: frozen descriptions, from which pixels, captions and edits all follow.

Lengths are in scene units: the shorter side of the frame spans [-1, 1], x to the right, y downwards. Time is counted
in frames. Angles are in radians.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evenreel.errors import SettingsError

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "diamond", "figure")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
TEXTURES = ("plain", "striped", "dotted", "checkered")
BACKGROUNDS = ("grass", "sand", "water", "night sky", "snow", "bricks", "wood", "clouds")
STYLES = ("none", "pixel art", "pencil sketch", "poster")
MOTIONS = ("resting", "sliding", "rolling", "bouncing")

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "texture": TEXTURES,
    "background": BACKGROUNDS,
    "style": STYLES,
}
"""What an edit can change, and to what."""


def _check(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"scene.{name} must be one of {', '.join(choices)}, got {value!r}.")


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows lists only."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A path through the scene: a straight drift, hops for `bouncing`, rotation for `rolling`."""

    kind: str = "resting"
    start: tuple[float, float] = (0.0, 0.0)
    """Position at frame 0."""
    velocity: tuple[float, float] = (0.0, 0.0)
    """Scene units per frame."""
    spin: float = 0.0
    """Radians per frame."""
    hop: float = 0.0
    """Height of a bounce."""
    period: float = 12.0
    """Frames of one bounce."""

    def __post_init__(self) -> None:
        _check("motion.kind", self.kind, MOTIONS)

    def position(self, frame: float) -> tuple[float, float]:
        """Return the centre (x, y) at a frame."""
        lift = self.hop * abs(math.sin(math.pi * frame / self.period))
        return self.start[0] + self.velocity[0] * frame, self.start[1] + self.velocity[1] * frame - lift

    def angle(self, frame: float) -> float:
        """Return the rotation at a frame."""
        return self.spin * frame


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One thing that moves."""

    shape: str
    colour: str
    texture: str = "plain"
    radius: float = 0.5
    """Half its height."""
    angle: float = 0.0
    """Rotation at frame 0."""
    motion: Motion = field(default_factory=Motion)

    def __post_init__(self) -> None:
        _check("shape", self.shape, SHAPES)
        _check("colour", self.colour, COLOURS)
        _check("texture", self.texture, TEXTURES)
        if not 0 < self.radius <= 4:
            raise SettingsError(f"scene.radius must lie in (0, 4], got {self.radius}.")


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pan and a slow zoom over the background plane."""

    velocity: tuple[float, float] = (0.0, 0.0)
    zoom: float = 0.0
    """Relative growth of everything per frame."""

    def offset(self, frame: float) -> tuple[float, float]:
        """Return the point of the scene in the middle of the picture."""
        return self.velocity[0] * frame, self.velocity[1] * frame

    def scale(self, frame: float) -> float:
        """Return the magnification at a frame."""
        return (1.0 + self.zoom) ** frame


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A clip: a background and the seed of its pattern, one or two objects (farthest first), a style, a camera."""

    background: str
    objects: tuple[SceneObject, ...]
    style: str = "none"
    camera: Camera = field(default_factory=Camera)
    seed: int = 0

    def __post_init__(self) -> None:
        _check("background", self.background, BACKGROUNDS)
        _check("style", self.style, STYLES)
        if not 1 <= len(self.objects) <= 2:
            raise SettingsError(f"a scene has one or two objects, got {len(self.objects)}.")

    @property
    def main(self) -> SceneObject:
        """The nearest object: the one a caption names first and an edit changes."""
        return self.objects[-1]

    def attribute(self, name: str) -> str:
        """Return the value of one of ATTRIBUTES (of the main object, where it belongs to an object)."""
        owner = self if name in ("background", "style") else self.main
        return getattr(owner, name)

    def attributes(self) -> dict[str, str]:
        """Return all of ATTRIBUTES, by name."""
        return {name: self.attribute(name) for name in ATTRIBUTES}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scene:
        """Return a scene from what `dataclasses.asdict` and JSON made of one. Raises: SettingsError."""
        try:
            objects = tuple(
                SceneObject(**{**thing, "motion": Motion(**_tuples(thing["motion"]))})
                for thing in values["objects"]
            )
            return cls(**{**values, "objects": objects, "camera": Camera(**_tuples(values["camera"]))})
        except (KeyError, TypeError) as error:
            raise SettingsError(f"this describes no scene ({error}); render it again.") from error

    def edited(self, **changes: str) -> Scene:
        """Return the same clip, same motion and camera, with attributes changed: the exact answer to an edit.

        Raises SettingsError for an unknown attribute or value.
        """
        if unknown := changes.keys() - ATTRIBUTES.keys():
            raise SettingsError(
                f"no such attribute: {', '.join(sorted(unknown))}; there are {', '.join(ATTRIBUTES)}."
            )
        own = {name: value for name, value in changes.items() if name in ("background", "style")}
        main = replace(self.main, **{name: value for name, value in changes.items() if name not in own})
        return replace(self, objects=(*self.objects[:-1], main), **own)
