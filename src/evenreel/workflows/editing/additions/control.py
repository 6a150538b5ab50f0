"""What ControlNets are shown: a map for every frame, gathered while frames pass by in windows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from evenreel.backbones import Backbone
from evenreel.backbones.control import Control, ControlNet, Controls, load_control
from evenreel.backbones.map_models import MapModels, levels
from evenreel.errors import ClipError, argument
from evenreel.files import shown
from evenreel.ops.edges import canny
from evenreel.progress import Progress
from evenreel.scratch import Growing
from evenreel.settings import ControlUse, RunSettings
from evenreel.types import Frames
from evenreel.video import VideoInfo, open_clip, probe, to_model
from evenreel.workflows.editing.records import record

NO_MODELS = MapModels()


@dataclass(frozen=True)
class Condition:
    """A ControlNet and the maps found for it so far, at the size at which the model works.

    Maps of the whole clip are kept, one byte a pixel for edges and three for others; many of them on disk.
    """

    net: ControlNet
    use: ControlUse
    """As the settings have it."""
    batch: int
    """Frames of another clip that are read at once."""
    clip: VideoInfo | None
    """The clip whose frames are shown; None for those that are edited."""
    clip_record: dict[str, Any] | None
    """That clip as the record keeps it, hashed before the long work: afterwards it may be another file."""
    maker: MapModels | None = None
    """What makes the maps of its frames; None for frames that are maps, and for edges."""
    made_by: dict[str, str] | None = None
    """Fingerprints of what makes them, by the names of their settings."""
    maps: Growing = field(default_factory=Growing)
    """Maps; of depth how near things are, which becomes maps once all frames are seen."""
    people: list[bool] = field(default_factory=list[bool])
    """Of each frame, whether anybody is seen in it, where poses are made."""

    @classmethod
    def opened(
        cls,
        use: ControlUse,
        batch: int,
        backbone: Backbone,
        models: MapModels = NO_MODELS,
        *,
        download: bool,
    ) -> "Condition":
        """Open the ControlNet of some settings, and check the model that makes its maps. Raises: WeightsError,
        ClipError."""
        clip = None if use.clip is None else probe(use.clip)
        clip_record = None if clip is None else record.described(clip)
        net = load_control(use.model, backbone, download=download)
        maker = models if models.makes(use.kind) else None
        made_by = None if maker is None else maker.fingerprints(use.kind)
        return cls(net, use, batch, clip, clip_record, maker, made_by)

    def see(self, frames: Frames) -> None:
        """Take the next frames of the source, unless the ControlNet is shown another clip."""
        if self.clip is None:
            self._add(frames)

    def first_shown(self, first: int, count: int) -> int:
        """Return which frame of its own clip the ControlNet is shown first, where `count` are edited from `first` on.

        A clip that has just as many is of that part alone; a longer one is numbered as the source.
        """
        assert self.clip is not None, "there is a clip of its own"
        there = self.clip.estimated_frame_count
        return 0 if there == count else first

    def control(
        self,
        size: tuple[int, int],
        first: int,
        count: int,
        progress: Progress,
        scenes: Sequence[slice] = (slice(None),),
    ) -> Control:
        """Return all maps; those of another clip are read now, as large as `size` (width, height).

        `first` is the number, in the source, of the first of `count` frames; depth is on one scale in each of the
        `scenes`. Raises: ClipError for a clip that cannot be read, has too few frames, or shows nobody where poses are
        wanted.
        """
        if self.clip is not None:
            there, wanted = self.clip.estimated_frame_count, first + count
            if there is not None and count != there < wanted:
                numbered = f", or {wanted} numbered as in the source" if first else ""
                raise ClipError(
                    f"{shown(self.clip.path)} has {there} frames for the ControlNet, and {count} are needed{numbered}; "
                    f"give another {argument('control_clip')}."
                )
            first = self.first_shown(first, count)
            stream = open_clip(self.clip.path, first, first + count, window=self.batch)
            progress("read control", 0, count)
            seen = 0
            for pixels, _ in stream:
                self._add(to_model(pixels, size))
                seen += len(pixels)
                progress("read control", seen, count)
        maps = self.maps.tensor()
        assert len(maps) == count, "a map for each frame"
        if self.maker is not None:
            self.maker.forget()
            if self.use.kind == "depth":
                maps = levels(maps, scenes)
            elif not any(self.people):
                where = "the clip" if self.clip is None else shown(self.clip.path)
                raise ClipError(
                    f"the pose model sees nobody in {where}; choose frames with a person, or another "
                    f"{argument('control_kind')} than pose."
                )
        return self.net.showing(maps, self.use.scale)

    def described(self) -> dict[str, Any]:
        """Describe the ControlNet and what it was shown, for the record."""
        return {"fingerprint": self.net.fingerprint, "clip": self.clip_record, "made_by": self.made_by}

    @property
    def empty(self) -> int:
        """In how many frames the pose model sees nobody."""
        return self.people.count(False)

    def _add(self, frames: Frames) -> None:
        if self.maker is not None and self.use.kind == "depth":
            self.maps.append(self.maker.nearness(frames.cpu()))
        elif self.maker is not None:
            drawn, anybody = self.maker.sticks(frames.cpu())
            self.maps.append(drawn)
            self.people.extend(bool(one) for one in anybody)
        elif self.use.kind == "canny":
            self.maps.append(canny(frames)[:, None].to("cpu", torch.uint8) * 255)
        else:
            self.maps.append((frames * 255).round().to("cpu", torch.uint8))


@dataclass(frozen=True)
class Conditions:
    """All ControlNets of a run, in the order of the settings."""

    each: tuple[Condition, ...]

    @classmethod
    def opened(
        cls, uses: Sequence[ControlUse], batch: int, backbone: Backbone, models: MapModels, *, download: bool
    ) -> "Conditions":
        """Open the ControlNets that settings name. Raises: WeightsError, ClipError.

        One that is named twice is loaded twice, since hosts keep what its layers saw.
        """
        return cls(tuple(Condition.opened(use, batch, backbone, models, download=download) for use in uses))

    @property
    def clip(self) -> VideoInfo | None:
        """The first clip that is shown in the place of the source, if any; a clip without source takes its shape."""
        return next((one.clip for one in self.each if one.clip is not None), None)

    def see(self, frames: Frames) -> None:
        """Take the next frames of the source."""
        for one in self.each:
            one.see(frames)

    def control(
        self,
        size: tuple[int, int],
        first: int,
        count: int,
        progress: Progress,
        scenes: Sequence[slice] = (slice(None),),
    ) -> Controls:
        """Return all maps of all ControlNets; see `Condition.control`."""
        return Controls(tuple(one.control(size, first, count, progress, scenes) for one in self.each))

    def described(self) -> list[dict[str, Any]]:
        """Describe all ControlNets and what they were shown, for the record."""
        return [one.described() for one in self.each]


def map_models(settings: RunSettings, device: torch.device) -> MapModels:
    """Return the models of the user's that make maps."""
    return MapModels(
        depth_model=settings.depth_model,
        pose_model=settings.pose_model,
        person_detector=settings.person_detector,
        device=device,
    )
