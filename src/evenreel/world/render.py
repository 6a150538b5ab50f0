"""From a scene to pixels, with the masks, depth and flow that are exactly true of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.errors import SettingsError
from evenreel.random import generator
from evenreel.types import Frames
from evenreel.world import figure
from evenreel.world.scene import Scene, SceneObject
from evenreel.world.shapes import SIGNED_DISTANCE, Distance, Points
from evenreel.world.styles import STYLE
from evenreel.world.surfaces import BACKGROUND, RGB, texture

OUTLINE = 0.06
"""Width of the dark rim of objects, in radii."""


@dataclass(frozen=True)
class Rendering:
    """A rendered clip and what is known of it."""

    frames: Frames
    """RGB in [0, 1]."""
    masks: Float[Tensor, "frames objects height width"]
    """How much of each pixel shows each object (farthest object first), in [0, 1]."""
    depth: Float[Tensor, "frames 1 height width"]
    """Distance from the camera: 1 for the background, less for what is nearer."""
    flow: Float[Tensor, "frames 2 height width"]
    """Pixels (x, y) that the point seen here moves until the next frame (or the one `ahead` frames later)."""


def _grid(height: int, width: int) -> Float[Tensor, "height width 2"]:
    """Pixel centres; the shorter side spans [-1, 1]."""
    unit = min(height, width) / 2
    y = (torch.arange(height) + 0.5 - height / 2) / unit
    x = (torch.arange(width) + 0.5 - width / 2) / unit
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def _column(values: Sequence[float] | Sequence[tuple[float, float]]) -> Tensor:
    """Per-frame values, shaped to broadcast over a picture."""
    return torch.tensor(values, dtype=torch.float32).view(len(values), 1, 1, -1)


class _Placement:
    """Maps between scene points and the own coordinates of an object, at every frame."""

    def __init__(self, thing: SceneObject, frames: Sequence[int | float]) -> None:
        angle = _column([thing.angle + thing.motion.angle(frame) for frame in frames])
        self.cos, self.sin = angle.cos(), angle.sin()
        self.centre = _column([thing.motion.position(frame) for frame in frames])
        self.radius = thing.radius
        self.pose = figure.joints(torch.tensor(frames)) if thing.shape == "figure" else None
        self.shape = thing.shape

    def to_own(self, p: Points) -> Points:
        offset = (p - self.centre) / self.radius
        x, y = offset[..., :1], offset[..., 1:]
        return torch.cat([self.cos * x + self.sin * y, self.cos * y - self.sin * x], dim=-1)

    def to_scene(self, own: Points) -> Points:
        x, y = own[..., :1], own[..., 1:]
        return (
            torch.cat([self.cos * x - self.sin * y, self.sin * x + self.cos * y], dim=-1) * self.radius
            + self.centre
        )

    def distance(self, own: Points) -> Distance:
        if self.pose is not None:
            return figure.signed_distance(own, self.pose)
        return SIGNED_DISTANCE[self.shape](own)


class _View:
    """What the camera sees: the point of the scene in each pixel of every frame."""

    def __init__(self, scene: Scene, frames: Sequence[int | float], size: tuple[int, int]) -> None:
        self.unit = min(size) / 2
        self.screen = _grid(*size)
        self.scale = _column([scene.camera.scale(frame) for frame in frames])
        self.offset = _column([scene.camera.offset(frame) for frame in frames])
        self.points = self.screen / self.scale + self.offset
        self.pixel = 1 / self.unit / self.scale[..., 0]
        """Side of a pixel in scene units."""

    def pixels(self, points: Points) -> Points:
        """Return where points of the scene are seen, in pixels from the middle of the picture."""
        return (points - self.offset) * self.scale * self.unit


def _paint(thing: SceneObject, own: Points, distance: Distance, pixel: Tensor) -> Tensor:
    """Colour of an object at its own coordinates: texture, then a dark rim."""
    base = torch.tensor(RGB[thing.colour])
    second = texture(thing.texture, own, float(pixel.mean()))[..., None]
    colour = base * (1 - 0.45 * second)
    rim = ((distance + OUTLINE) / pixel + 0.5).clamp(0, 1)[..., None]
    return colour * (1 - 0.65 * rim)


def render(
    scene: Scene,
    frame_indices: Sequence[int | float],
    size: int | tuple[int, int] = 128,
    *,
    maps: bool = True,
    ahead: int | float = 1,
) -> Rendering:
    """Render frames of a scene, deterministically.

    size: side of a square, or (height, width), in pixels, at least 8. maps=False leaves flow zero (faster).
    ahead: over how many frames the flow goes.
    Raises SettingsError for sizes below 8 or no frames.
    """
    frames, (height, width) = _checked(frame_indices, size)
    later = [frame + ahead for frame in frames]
    view = _View(scene, frames, (height, width))
    points, pixel = view.points, view.pixel

    colour = BACKGROUND[scene.background](points, generator(scene.seed))
    depth = torch.ones_like(points[..., 0])
    target = points
    masks: list[Tensor] = []
    for order, thing in enumerate(scene.objects):
        placement = _Placement(thing, frames)
        own = placement.to_own(points)
        distance = placement.distance(own)
        own_pixel = pixel / thing.radius
        alpha = _coverage(distance, own_pixel)
        colour = colour + alpha[..., None] * (_paint(thing, own, distance, own_pixel) - colour)
        masks = [mask * (1 - alpha) for mask in masks] + [alpha]
        inside = alpha > 0.5
        depth = torch.where(inside, 0.75 - 0.35 * order / max(1, len(scene.objects) - 1), depth)
        if maps:
            target = torch.where(inside[..., None], _carried(placement, own, thing, later), target)
    picture = STYLE[scene.style](colour.movedim(-1, 1).clamp(0, 1))
    flow = torch.zeros_like(points)
    if maps:
        flow = _View(scene, later, (height, width)).pixels(target) - view.screen * view.unit
    return Rendering(picture, torch.stack(masks, 1), depth[:, None], flow.movedim(-1, 1))


def main_mask(
    scene: Scene, frame_indices: Sequence[int | float], size: int | tuple[int, int] = 128
) -> Float[Tensor, "frames 1 height width"]:
    """Return how much of each pixel shows the main object, as in `render(...).masks[:, -1:]`, without drawing it.

    Raises SettingsError as `render` does.
    """
    frames, sides = _checked(frame_indices, size)
    view, placement = _View(scene, frames, sides), _Placement(scene.main, frames)
    distance = placement.distance(placement.to_own(view.points))
    return _coverage(distance, view.pixel / scene.main.radius)[:, None]


def main_flow(
    scene: Scene,
    frame_indices: Sequence[int | float],
    size: int | tuple[int, int] = 128,
    *,
    ahead: int | float = 1,
) -> Float[Tensor, "frames 2 height width"]:
    """Return pixels (x, y) that every place moves if it moves with the main object, also where something else is seen.

    Inside the object it is the flow of `render`. A drawing that reaches beyond the true outline is carried along with
    it. Raises SettingsError as `render` does.
    """
    frames, sides = _checked(frame_indices, size)
    later = [frame + ahead for frame in frames]
    view, placement = _View(scene, frames, sides), _Placement(scene.main, frames)
    target = _carried(placement, placement.to_own(view.points), scene.main, later)
    flow = _View(scene, later, sides).pixels(target) - view.screen * view.unit
    return flow.movedim(-1, 1)


def keypoints(
    scene: Scene, frame_indices: Sequence[int | float], size: int | tuple[int, int] = 128
) -> Float[Tensor, "frames objects 18 2"]:
    """Return where the joints of figures are, (x, y) in pixels from the upper left corner, in OpenPose's order of 18.

    A figure's shoulders are at its neck, its hips at one place. What is not there is NaN: eyes and ears, and all joints
    of objects that are not figures. Raises SettingsError as `render` does.
    """
    frames, (height, width) = _checked(frame_indices, size)
    view = _View(scene, frames, (height, width))
    found = torch.full((len(frames), len(scene.objects), len(figure.OPENPOSE), 2), torch.nan)
    for number, thing in enumerate(scene.objects):
        placement = _Placement(thing, frames)
        if placement.pose is not None:
            points = view.pixels(placement.to_scene(placement.pose[:, None]))[:, 0]
            for place, joint in enumerate(figure.OPENPOSE):
                if joint is not None:
                    found[:, number, place] = points[:, figure.JOINTS.index(joint)]
    return found + torch.tensor([width / 2, height / 2])


def _checked(
    frame_indices: Sequence[int | float], size: int | tuple[int, int]
) -> tuple[list[float], tuple[int, int]]:
    """Frames, height and width, if they can be rendered."""
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 8 or not len(frame_indices):
        raise SettingsError(
            f"render needs at least one frame of at least 8 x 8 px, got {len(frame_indices)} of {width} x {height}."
        )
    return [float(index) for index in frame_indices], (height, width)


def _coverage(distance: Distance, pixel: Tensor) -> Distance:
    """How much of each pixel lies inside an outline, in [0, 1]; `pixel` is a pixel's side in units of the distance."""
    return (0.5 - distance / pixel).clamp(0, 1)


def _carried(placement: _Placement, own: Points, thing: SceneObject, later: Sequence[float]) -> Points:
    """Where points that an object carries along are in the scene at later frames."""
    following = _Placement(thing, later)
    if placement.pose is not None and following.pose is not None:
        own = figure.carried(own, placement.pose, following.pose)
    return following.to_scene(own)
