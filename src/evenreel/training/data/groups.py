"""Groups of frames out of clips and scenes, as the members of a sample: pictures and one JSON."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from evenreel.errors import ClipError
from evenreel.files import shown
from evenreel.ops.edges import canny
from evenreel.ops.skeleton import skeleton
from evenreel.training.data.looking import CAPTIONED_AT, Models
from evenreel.training.data.pictures import encoded, packed_depth, packed_flow
from evenreel.training.data.settings import DataSettings, LookingSettings
from evenreel.training.data.sources import ClipEntry, SceneEntry
from evenreel.training.data.wording import world_variations
from evenreel.types import Pixels
from evenreel.world import captions, keypoints, random_scene, render

Members = dict[str, bytes]
"""The files of a sample by their names after its key and a dot."""
NO_MODELS = Models(LookingSettings())
SCENE_CAPTIONS = 20
"""As many as MSR-VTT has for a clip."""


class Unusable(Exception):  # noqa: N818  (no error for users: a reason to leave a clip out)
    """A clip gives no groups; says why."""


def starts(frame_count: int, settings: DataSettings) -> list[int]:
    """Return the first frames of the groups of a clip, evenly from its beginning to its end; empty for too short a
    clip.
    """
    possible = frame_count - settings.span + 1
    count = min(settings.per_clip, possible)
    if count < 2:
        return [(possible - 1) // 2] * max(0, count)
    return [round(i * (possible - 1) / (count - 1)) for i in range(count)]


@dataclasses.dataclass(frozen=True)
class _Made:
    """What is made of one frame."""

    members: list[tuple[str, bytes]]
    """Under names with {} for its place in the group."""
    nearness: Tensor | None
    """How near things are, (height, width), in units of the model's own."""
    anybody: bool
    """Whether it shows a person; also where nobody looked."""


def clip_groups(
    entry: ClipEntry,
    settings: DataSettings,
    reword: Callable[[Sequence[str]], Sequence[str]],
    models: Models = NO_MODELS,
) -> Iterator[Members]:
    """Yield the samples of a clip, in order; the clip is read twice and never held whole.

    `models` make maps of depth and poses, and the captions of a clip without any. Depth is told from the nearest place
    of a group's frames (0) to the farthest (1). Groups of poses in which nobody is seen are left out.

    Raises Unusable, also after some of them, where the clip cannot be read or is too short.
    """
    # here, as trainings import this file on machines without PyAV
    from evenreel.video import open_clip
    from evenreel.video.hashing import hash_of

    if entry.problem is not None or entry.path is None:
        raise Unusable(entry.problem)
    try:
        stream = open_clip(
            entry.path, allow_truncated=settings.allow_truncated, allow_damaged=settings.allow_damaged
        )
        times = stream.times()
        shown_part = _within(times, entry.cut)
        first = starts(len(shown_part), settings)
        if not first:
            raise Unusable(
                f"it has {len(shown_part)} frames and a group spans {settings.span}; choose a smaller gap"
            )
        texts, made_texts = entry.captions, {}
        if not texts:
            moments = sorted({shown_part[int(share * len(shown_part))] for share in CAPTIONED_AT})
            texts = models.captions(
                [fitted(pixels, settings.size) for _, pixels in stream.pick(set(moments))]
            )
            made_texts = {"captioned": True}
            if not texts:
                raise Unusable("the model that captions says nothing of it")
        rate, damaged = stream.info.average_rate, {"damaged": stream.damaged} if stream.damaged else {}
        known = {
            "clip": entry.name,
            "captions": texts,
            "variations": list(reword(texts)),
            "fps": round(float(rate), 6) if rate else None,
            "source": {
                "file": shown(entry.path.name),
                "sha256": hash_of(stream.info.images or (entry.path,)),
                **damaged,
                **made_texts,
            },
        }
        groups = [[shown_part[at + settings.gap * i] for i in range(settings.frames)] for at in first]
        pictures = stream.pick({number for group in groups for number in group})
        kept: dict[int, _Made] = {}
        alone = True
        for numbers in groups:
            kept = {number: made for number, made in kept.items() if number >= numbers[0]}
            while numbers[-1] not in kept:
                number, pixels = next(pictures, (None, None))
                if number is None or pixels is None:
                    raise Unusable("it changed while it was read")
                kept[number] = _made(fitted(pixels, settings.size), settings, models)
            group = [kept[number] for number in numbers]
            if not any(made.anybody for made in group):
                continue
            alone = False
            members = {
                suffix.format(index): data
                for index, made in enumerate(group)
                for suffix, data in made.members
            }
            members |= _depths([made.nearness for made in group if made.nearness is not None])
            moments = [round(float(times[number]), 6) for number in numbers]
            yield {"json": _json({**known, "frames": numbers, "times": moments}), **members}
        if alone:
            raise Unusable("it shows no person, and poses are to be kept")
    except ClipError as error:
        raise Unusable(str(error).replace(shown(entry.path), entry.name).rstrip(".")) from error
    except OSError as error:
        raise Unusable(f"it cannot be read ({error.strerror})") from error


def _made(pixels: Pixels, settings: DataSettings, models: Models) -> _Made:
    members, anybody = _frame_members(pixels, settings), True
    if (posed := models.pose(pixels)) is not None:
        drawn, anybody = posed
        members.append(("pose.{}.png", encoded(drawn)))
    near = models.nearness(pixels)
    return _Made(members, None if near is None else near[0], anybody)


def _depths(nearness: Sequence[Tensor]) -> Members:
    """Pictures of depth of a group's frames, on one scale, so that what stands still keeps its depth."""
    if not nearness:
        return {}
    whole = torch.stack(list(nearness))
    low, high = whole.min(), whole.max()
    # where all is equally far, all is background
    depth = (high - whole) / (high - low) if high > low else torch.ones_like(whole)
    return {f"depth.{index}.png": encoded(packed_depth(one)) for index, one in enumerate(depth)}


def _within(times: Sequence[Fraction], cut: tuple[float, float] | None) -> range:
    """Numbers of the frames that belong to a clip.

    MSR-VTT says where in the original recording a clip lies, while its archives hold clips that are already cut: only a
    file that lasts as long as the original must is cut here.
    """
    everything = range(len(times))
    if cut is None or not times:
        return everything
    start, end = cut
    length = float(times[-1] - times[0])
    if length < end - 1 or length < end - start + 1:
        return everything
    inside = [number for number in everything if start <= times[number] - times[0] < end]
    return range(inside[0], inside[-1] + 1) if inside else range(0)


def scene_groups(entry: SceneEntry, settings: DataSettings) -> Iterator[Members]:
    """Yield the samples of a scene, with exact captions and maps. Raises Unusable for too few frames."""
    from evenreel.video import from_model

    scene = random_scene(entry.seed, objects=entry.objects)
    first = starts(entry.frame_count, settings)
    if not first:
        raise Unusable(f"it has {entry.frame_count} frames and a group spans {settings.span}")
    described = dataclasses.asdict(scene)
    texts = captions(scene, SCENE_CAPTIONS)
    known = {
        "clip": entry.name,
        "captions": texts,
        "variations": world_variations(scene, texts, settings.variations),
        "fps": None,
        "source": {"seed": entry.seed, "sha256": hashlib.sha256(_json(described)).hexdigest()},
        "scene": described,
    }
    if "pose" in settings.maps and all(thing.shape != "figure" for thing in scene.objects):
        raise Unusable("it shows no person, and poses are to be kept")
    width, height = settings.size
    exact = "flow" in settings.maps
    for at in first:
        numbers = [at + settings.gap * i for i in range(settings.frames)]
        clip = render(scene, numbers, (height, width), maps=exact, ahead=settings.gap)
        pixels = from_model(clip.frames, settings.size)
        members: Members = {"json": _json({**known, "frames": numbers, "times": None})}
        for index in range(settings.frames):
            for suffix, data in _frame_members(pixels[index : index + 1], settings):
                members[suffix.format(index)] = data
            if "depth" in settings.maps:
                members[f"depth.{index}.png"] = encoded(packed_depth(clip.depth[index, 0]))
            if "pose" in settings.maps:
                points = keypoints(scene, numbers[index : index + 1], (height, width))
                drawn = skeleton(points, (height, width))[0]
                members[f"pose.{index}.png"] = encoded(drawn.movedim(0, -1).numpy())
        if "flow" in settings.maps:
            for index in range(settings.frames - 1):
                members[f"flow.{index}.png"] = encoded(packed_flow(clip.flow[index]))
        yield members


def fitted(pixels: Pixels, size: tuple[int, int]) -> UInt8[Tensor, "frames fit_height fit_width 3"]:
    """Return frames scaled to cover `size` (width, height) and cut around their middle; untouched where they fit."""
    from evenreel.video import from_model, to_model

    height, width = pixels.shape[1:3]
    scale = max(size[0] / width, size[1] / height)
    across, down = (
        max(1, min(side, round(wanted / scale))) for side, wanted in zip((width, height), size, strict=True)
    )
    left, top = (width - across) // 2, (height - down) // 2
    return from_model(to_model(pixels[:, top : top + down, left : left + across], size), size)


def _frame_members(pixels: Pixels, settings: DataSettings) -> list[tuple[str, bytes]]:
    """What is kept of one frame, under names with {} for its place in the group."""
    suffix = settings.frame_members[0].replace("0", "{}", 1)
    made = [(suffix, encoded(pixels[0].numpy(), settings.image_format))]
    if "canny" in settings.maps:
        made.append(("canny.{}.png", encoded(edges(pixels)[0].numpy())))
    return made


def edges(pixels: Pixels) -> UInt8[Tensor, "frames height width"]:
    """Return Canny edges as ControlNets are shown them: 255 on a line, else 0."""
    from evenreel.video import to_model

    return canny(to_model(pixels, (pixels.shape[2], pixels.shape[1]))).to(torch.uint8) * 255


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode()
