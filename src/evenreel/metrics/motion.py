"""How the object of a clip of the world moves, told from its frames alone: made for clips generated from text.

The segmenter finds the object in each frame, the true outline of its shape is fitted to it, and the camera is found
from what lies around. What is left is the object's own path, from which the kinds of motion follow.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from evenreel.metrics.outline import SYMMETRY, Outlines, area_and_middle, fit_outlines
from evenreel.metrics.segmenter import Mask, mask_iou, packaged_segmenter
from evenreel.ops.edges import blurred
from evenreel.types import Frames

SHORTEST = 4
"""Frames from which on a motion can be told."""
LEAST_SPEED = 0.004
"""Half heights of the picture a frame from which on an object moves: the world's slowest moves twice as fast."""
LEAST_SPIN = 0.006
"""Radians a frame from which on it rolls: half of the world's slowest."""
LEAST_HOP = 0.06
"""Half heights that a path leaves a straight line by where it bounces; the world's lowest hop is 0.15."""
CAMERA_STAGES = ((3.0, 2), (2.0, 4), (1.0, 6))
"""Of finding the camera: blur in pixels, and frames between those that are compared."""
CAMERA_STEPS = 6
USUAL = (0.008, 0.008, 0.003)
"""Pan, across and down, and zoom as they are in the world: standard deviations of what is expected."""
NOISE = 0.01
"""Least deviation of a pixel from what is expected, in [0, 1]."""
ALIKE = 3000
"""Pixels that err together, being blurred and of one pattern: so many count as one."""
DOUBT, DOUBT_FLOOR = 1.05, 2e-4
"""How much larger than the least a camera's mean difference may be for it to be believed: a factor, and in [0, 1]."""
FASTEST_PAN = 0.013
"""Half heights a frame: the world's cameras are not faster, and half of its sliding objects are."""
LEAST_PIXELS = 64
"""Pixels around the object without which nothing is told."""
SAMPLES = 96
"""Angles at which the surface of what is round is looked at."""
RADII = (0.5, 0.57, 0.64, 0.7)
"""Where on it, in radii: within the rims of disc and ring."""
PLAIN = 0.03
"""Deviation of colours along these circles below which nothing shows whether it turns."""


@dataclass(frozen=True)
class Camera:
    """A steady pan and zoom, as in the world."""

    velocity: tuple[float, float]
    """Half heights of the picture a frame, to the right and downwards."""
    zoom: float
    """Relative growth of everything in a frame."""


@dataclass(frozen=True)
class Track:
    """Where the object is in each frame, freed from the camera."""

    path: Float[Tensor, "frames 2"]
    """Places in the scene, in half heights of the picture."""
    angle: Float[Tensor, " frames"]
    """How far it has turned since the first frame, in radians; zero where nothing shows it."""
    camera: Camera
    outlines: Outlines
    masks: Mask

    @property
    def velocity(self) -> tuple[float, float]:
        """Of the straight line that is nearest to the path: half heights a frame."""
        x, y = _slope(self.path).tolist()
        return x, y

    @property
    def spin(self) -> float:
        """Radians a frame, on average."""
        return float(_slope(self.angle[:, None]))

    @property
    def hop(self) -> float:
        """How far the path leaves a straight line upwards and downwards, from end to end."""
        height = self.path[:, 1]
        line = _line(self.path)[:, 1]
        return float((height - line).amax() - (height - line).amin())

    @property
    def kind(self) -> str:
        """One of the world's MOTIONS."""
        if self.hop > LEAST_HOP:
            return "bouncing"
        if abs(self.spin) > LEAST_SPIN:
            return "rolling"
        return "resting" if math.hypot(*self.velocity) < LEAST_SPEED else "sliding"


@dataclass(frozen=True)
class Identity:
    """Whether it is one and the same object in all frames."""

    outline_iou: float
    """Mean IoU of its masks in neighbouring frames, laid over each other by place, size and turn."""
    colour_drift: float
    """Mean distance of its mean colour in each frame from that of all frames; RGB in [0, 1]."""


@torch.inference_mode()
def track(frames: Frames, shape: str) -> Track:
    """Follow the object of a clip, which is of a known shape, through its frames.

    Raises ValueError for fewer than SHORTEST frames or an unknown shape.
    """
    if len(frames) < SHORTEST:
        raise ValueError(f"a motion takes at least {SHORTEST} frames, got {len(frames)}.")
    masks = packaged_segmenter().masks(frames)
    outlines = fit_outlines(masks, shape)
    places = _middles(outlines, shape) / (min(frames.shape[-2:]) / 2)
    camera = find_camera(frames, masks, places)
    time = torch.arange(len(frames), dtype=torch.float32)[:, None]
    path = places / (1 + camera.zoom) ** time + time * torch.tensor(camera.velocity)
    turned = _turned(frames, outlines) if SYMMETRY.get(shape) == 0 else _unwrapped(outlines.angle, shape)
    return Track(path, turned, camera, outlines, masks)


def motion_verdict(frames: Frames, shape: str) -> str:
    """Return how the object moves: `resting`, `sliding`, `rolling` or `bouncing`, as the world defines them.

    A plain disc or ring that rolls is said to slide: nothing shows that it turns. The figure's limbs move in every one
    of the world's motions; it never rolls. Raises as `track` does.
    """
    return track(frames, shape).kind


@torch.inference_mode()
def identity(frames: Frames, found: Track) -> Identity:
    """Return how alike the object is from frame to frame; `found` is the track of these frames."""
    placed = _placed(found.masks.float(), found.outlines, found.angle) > 0.5
    alike = mask_iou(placed[1:], placed[:-1])
    weight = found.masks.float()
    colour = (frames * weight).sum((2, 3)) / weight.sum((2, 3)).clamp_min(1)
    drift = (colour - colour.mean(0)).norm(dim=1).mean()
    return Identity(float(alike.mean()), float(drift))


def find_camera(frames: Frames, masks: Mask, places: Float[Tensor, "frames 2"] | None = None) -> Camera:
    """Return the steady pan and zoom that fits best to what lies around the object.

    Gauss-Newton on the squared difference of frames some steps apart, one brought back to the other (Lucas & Kanade
    1981), blurred less and less. All pairs share three numbers, so that little contrast is enough. Where the
    surroundings do not tell (stripes that run along the motion, say), a camera is believed for which an object at
    `places` (half heights from the middle) rests, if cameras are as slow as that, else one that stands still.
    """
    around = _Surroundings(frames, masks)
    state = torch.zeros(3)
    for blur, apart in CAMERA_STAGES:
        for _ in range(CAMERA_STEPS):
            state = around.stepped(state, blur, apart)
    likely = [torch.zeros(3), state * torch.tensor([0.0, 0.0, 1.0])]
    if places is not None:
        time = torch.arange(len(places), dtype=torch.float32)[:, None]
        pan = -_slope(places / (1 + state[2]) ** time)
        likely.insert(0 if pan.norm() < FASTEST_PAN else len(likely), torch.cat([pan, state[2:]]))
    costs = [around.cost(one) for one in (*likely, state)]
    limit = DOUBT * min(costs) + DOUBT_FLOOR
    state = next(one for one, cost in zip((*likely, state), costs, strict=True) if cost <= limit)
    return Camera((float(state[0]), float(state[1])), float(state[2]))


class _Surroundings:
    """A clip without its object, looked at under the assumption of a camera (pan across, pan down, zoom)."""

    def __init__(self, frames: Frames, masks: Mask) -> None:
        self.luma = frames.mean(1)
        self.away = functional.max_pool2d(masks.float(), 9, 1, 4)[:, 0] < 0.5
        height, width = self.luma.shape[-2:]
        self.half = min(height, width) / 2
        y = (torch.arange(height) + 0.5 - height / 2) / self.half
        x = (torch.arange(width) + 0.5 - width / 2) / self.half
        self.screen = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
        self.to_grid = torch.tensor([2 * self.half / width, 2 * self.half / height])
        self.soft = {blur: blurred(self.luma, blur) for blur, _ in CAMERA_STAGES}

    def compared(self, state: Tensor, blur: float, apart: int) -> tuple[Tensor, Tensor, Tensor, int]:
        """Later frames brought back, their differences to earlier ones, where they count, and frames between them."""
        soft, step = self.soft[blur], min(apart, len(self.luma) - 1)
        first = torch.arange(len(soft) - step, dtype=torch.float32)[:, None, None, None]
        # What is seen at s in frame i is seen at s (1+z)^n - n v (1+z)^(i+n) in frame i + n.
        goes = self.screen * (1 + state[2]) ** step - step * state[:2] * (1 + state[2]) ** (first + step)
        grid = goes * self.to_grid
        seen = functional.grid_sample(soft[step:, None], grid, align_corners=False, padding_mode="border")[
            :, 0
        ]
        free = functional.grid_sample(self.away[step:, None].float(), grid, align_corners=False)[:, 0] > 0.99
        return seen, seen - soft[:-step], self.away[:-step] & free & (grid.abs() < 1).all(-1), step

    def stepped(self, state: Tensor, blur: float, apart: int) -> Tensor:
        """Return one Gauss-Newton step, with weights that fall for what fits badly, and what is usual as a prior."""
        seen, residual, chosen, step = self.compared(state, blur, apart)
        down, across = torch.gradient(seen, spacing=1 / self.half, dim=(1, 2))
        growth = across * self.screen[..., 0] + down * self.screen[..., 1]
        slopes = step * torch.stack([-across, -down, growth], -1)
        rows, wanted = slopes[chosen].double(), residual[chosen].double()
        if len(rows) < LEAST_PIXELS:
            return state
        spread = wanted.abs().median().clamp_min(NOISE)
        weighted = rows / (1 + (wanted / (3 * spread)).square())[:, None]
        prior = (ALIKE * spread.square()) / torch.tensor(USUAL, dtype=torch.float64).square()
        pull = weighted.T @ wanted + prior * state.double()
        change = torch.linalg.solve(weighted.T @ rows + torch.diag(prior), pull)
        return state - change.float().clamp(-0.02, 0.02)

    def cost(self, state: Tensor) -> float:
        """Return the mean difference that this camera leaves, of the last stage."""
        _, residual, chosen, _ = self.compared(state, *CAMERA_STAGES[-1])
        return float(residual[chosen].abs().mean()) if chosen.sum() >= LEAST_PIXELS else 0.0


def _middles(outlines: Outlines, shape: str) -> Float[Tensor, "frames 2"]:
    """Middles of the shapes' mass in pixels: an origin that lies elsewhere jumps where a turned shape fits as well."""
    _, (x, y) = area_and_middle(shape)
    cos, sin = outlines.angle.cos(), outlines.angle.sin()
    return outlines.centre + outlines.radius[:, None] * torch.stack(
        [cos * x - sin * y, sin * x + cos * y], -1
    )


def _unwrapped(angle: Float[Tensor, " frames"], shape: str) -> Float[Tensor, " frames"]:
    """Turns since the first frame, each the smallest that the shape's symmetry allows."""
    sector = 2 * math.pi / SYMMETRY.get(shape, 1)
    steps = torch.remainder(angle.diff() + sector / 2, sector) - sector / 2
    return torch.cat([torch.zeros(1), steps.cumsum(0)])


def _turned(frames: Frames, outlines: Outlines) -> Float[Tensor, " frames"]:
    """Turns since the first frame of something round, from its surface; zero where that is plain."""
    around = torch.arange(SAMPLES) * (2 * math.pi / SAMPLES)
    own = torch.stack([torch.stack([r * around.cos(), r * around.sin()], -1) for r in RADII])
    places = outlines.centre[:, None, None] + outlines.radius[:, None, None, None] * own
    size = torch.tensor([frames.shape[3], frames.shape[2]])
    seen = functional.grid_sample(frames, 2 * places / size, align_corners=False, padding_mode="border")
    seen = seen.flatten(1, 2)
    seen = seen - seen.mean(2, keepdim=True)
    if seen.square().mean().sqrt() < PLAIN:
        return torch.zeros(len(frames))
    waves = torch.fft.rfft(seen, dim=2)
    alike = torch.fft.irfft((waves[1:] * waves[:-1].conj()).sum(1), n=SAMPLES, dim=1)
    reach = SAMPLES // 12  # no farther than 30 degrees from frame to frame
    near = torch.cat([alike[:, -reach:], alike[:, : reach + 1]], 1)
    peak = near[:, 1:-1].argmax(1) + 1
    row = torch.arange(len(near))
    before, top, after = near[row, peak - 1], near[row, peak], near[row, peak + 1]
    bend = (before - 2 * top + after).clamp(max=-1e-9)
    shift = peak - reach + (0.5 * (before - after) / bend).clamp(-0.5, 0.5)
    return torch.cat([torch.zeros(1), (shift * (2 * math.pi / SAMPLES)).cumsum(0)])


def _placed(
    masks: Float[Tensor, "frames 1 height width"], outlines: Outlines, angle: Float[Tensor, " frames"]
) -> Float[Tensor, "frames 1 64 64"]:
    """Masks laid over each other: in the object's middle, at one size, turned back."""
    side = torch.linspace(-1.2, 1.2, 64)
    own = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1)
    cos, sin = (f(angle)[:, None, None] for f in (torch.cos, torch.sin))
    turned = torch.stack([cos * own[..., 0] - sin * own[..., 1], sin * own[..., 0] + cos * own[..., 1]], -1)
    places = outlines.centre[:, None, None] + outlines.radius[:, None, None, None] * turned
    size = torch.tensor([masks.shape[3], masks.shape[2]])
    return functional.grid_sample(masks, 2 * places / size, align_corners=False)


def _slope(values: Float[Tensor, "frames values"]) -> Float[Tensor, " values"]:
    """Of the straight line nearest to each column."""
    time = torch.arange(len(values), dtype=values.dtype)
    time = time - time.mean()
    return (time[:, None] * (values - values.mean(0))).sum(0) / time.square().sum()


def _line(values: Float[Tensor, "frames values"]) -> Float[Tensor, "frames values"]:
    time = torch.arange(len(values), dtype=values.dtype)
    return values.mean(0) + (time - time.mean())[:, None] * _slope(values)
