"""What items are about: a clip with an edit that is asked for, and what can be measured of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from evenreel.backbones.clip import ClipModel
from evenreel.backbones.vision import VisionTransformer
from evenreel.metrics import distribution, fidelity, perceptual, structure
from evenreel.metrics.base import Metric, measure
from evenreel.metrics.flow import EstimatedFlow, FlowSource
from evenreel.metrics.inception import Inception
from evenreel.metrics.lpips import Lpips
from evenreel.metrics.window import Inputs, cut, windows
from evenreel.settings import EditSettings
from evenreel.study.run.footage import Filmed
from evenreel.types import Frames
from evenreel.workflows.world.edits import METRICS, WorldEdit, measured

FILMED: Mapping[str, type[Metric]] = {
    **METRICS,
    "source_ssim": fidelity.SourceSsim,
    "lpips_consecutive": perceptual.LpipsConsecutive,
    "lpips_source": perceptual.LpipsSource,
    "background_lpips": perceptual.BackgroundLpips,
    "structure_distance": structure.StructureDistance,
    "frechet_inception": distribution.FrechetInception,
    "kid_inception": distribution.KidInception,
}
"""What is measured of clips from cameras; what cannot be had of one is None."""


class Subject(ABC):
    """A clip and its edit."""

    @property
    @abstractmethod
    def frames(self) -> Frames:
        """The clip, at the model's own size."""

    @property
    @abstractmethod
    def answer(self) -> Frames:
        """The right answer; of a clip that has none the clip itself."""

    @abstractmethod
    def settings(self, **changes: object) -> EditSettings:
        """Return settings of the edit that is asked for."""

    @abstractmethod
    def measured(self, frames: Frames) -> dict[str, float | None]:
        """Measure a result by name; None for what cannot be had."""


@dataclass(frozen=True)
class RenderedSubject(Subject):
    """A clip of the world, whose right answer is known."""

    edit: WorldEdit
    clip: ClipModel | None

    @property
    def frames(self) -> Frames:
        """The clip."""
        return self.edit.source.frames

    @property
    def answer(self) -> Frames:
        """The right answer."""
        return self.edit.truth.frames

    def settings(self, **changes: object) -> EditSettings:
        """Return settings of the edit, with the world's captions as prompts."""
        return self.edit.settings(**changes)

    def measured(self, frames: Frames) -> dict[str, float | None]:
        """Measure a result against the right answer and along the exact motion."""
        return measured(self.edit, frames, self.clip)


@dataclass(frozen=True)
class Towers:
    """Networks that metrics look through; None where no weights are named."""

    clip: ClipModel | None = None
    lpips: Lpips | None = None
    dino: VisionTransformer | None = None
    inception: Inception | None = None


@dataclass(frozen=True)
class FilmedSubject(Subject):
    """A clip from a camera: no right answer, and motion that is estimated."""

    filmed: Filmed
    count: int
    side: int
    towers: Towers

    @cached_property
    def frames(self) -> Frames:
        """The clip's first frames. Raises: ClipError."""
        return self.filmed.frames(self.count, self.side)

    @property
    def answer(self) -> Frames:
        """The clip itself."""
        return self.frames

    def settings(self, **changes: object) -> EditSettings:
        """Return settings of the edit, with the prompts that the list of edits has."""
        asked = {"prompt": self.filmed.prompt, "source_prompt": self.filmed.source_prompt}
        return EditSettings.from_json({**asked, **changes})

    def measured(self, frames: Frames) -> dict[str, float | None]:
        """Measure a result against the clip; percentages are shares."""
        background = self.filmed.background(self.count, self.side)
        inputs = Inputs(
            prompt=self.filmed.prompt,
            source_prompt=self.filmed.source_prompt or None,
            mask=background is not None,
            flow=_flow(),
            clip=self.towers.clip,
            lpips=self.towers.lpips,
            dino=self.towers.dino,
            inception=self.towers.inception,
        )
        figures = measure(windows(cut(self.frames, frames, background), inputs), FILMED, inputs)
        return {
            name: one.value / 100 if one.value is not None and FILMED[name].unit == "%" else one.value
            for name, one in figures.items()
        }


def _flow() -> FlowSource | None:
    try:
        return EstimatedFlow()
    except ImportError:  # OpenCV is an extra
        return None
