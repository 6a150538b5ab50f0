"""Edits measured against their sources: files in, figures out, with the reason for each figure that is missing."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from evenreel.backbones.clip import ClipModel, load_clip
from evenreel.backbones.vision import VisionTransformer, load_dino
from evenreel.errors import EvenreelError, OutputError, PluginError, SettingsError
from evenreel.files import expanded
from evenreel.metrics.answer import Answer, SeenAnswer
from evenreel.metrics.base import Figure, Metric, find, measure, registered
from evenreel.metrics.flow import EstimatedFlow, FlowFiles, FlowSource
from evenreel.metrics.inception import Inception
from evenreel.metrics.lpips import Lpips
from evenreel.metrics.statistics import Estimate, cluster_bootstrap
from evenreel.metrics.window import Inputs, Window, windows
from evenreel.progress import Progress, listener, silent
from evenreel.workflows.editing.failures.memory_errors import memory_errors_explained
from evenreel.workflows.editing.records import record
from evenreel.workflows.evaluation.pairs import PATHS, Pair
from evenreel.workflows.evaluation.side_by_side import SideBySide
from evenreel.world.captions import understood

EVALUATION_VERSION = 1
"""Raised when the JSON of an evaluation changes in a way that older readers would misread."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured of one pair."""

    pair: Pair
    """With prompts and frames as they were taken to be."""
    frames: int
    size: tuple[int, int]
    """Width and height at which it was compared: those of the source."""
    figures: Mapping[str, Figure]
    flow: str | None
    """Where the flow came from; None where none was needed or known."""
    models: Mapping[str, Mapping[str, str]]
    """Name and SHA-256 of the weights that were used."""
    notes: Sequence[str] = ()


def evaluate(
    source: str | os.PathLike[str],
    edit: str | os.PathLike[str],
    *,
    metrics: Sequence[str] = (),
    clip: str | None = None,
    lpips: str | os.PathLike[str] | None = None,
    dino: str | None = None,
    inception: str | os.PathLike[str] | None = None,
    device: str = "auto",
    progress: Progress | bool = False,
    **known: Any,
) -> Evaluation:
    """Measure an edited clip against its source, as `evenreel evaluate` does.

    Examples:
        >>> measured = evenreel.evaluate("in.mp4", "in.mp4", metrics=["source_ssim", "flicker"])
        >>> measured.figures["source_ssim"].value
        1.0

    What the edit was to show is read from the record beside it. `known` says what that leaves out, or says otherwise:
    `prompt`, `source_prompt`, `mask`, `flow`, `truth` and `frames`, the fields of `Pair`. Weights that metrics need
    (`clip`, `lpips`, `dino`, `inception`) are those of `evenreel evaluate`; a figure that cannot be computed says why
    in `unavailable`. For many clips make one `Evaluator`, which loads weights once.

    Raises: ClipError for clips that cannot be read or do not fit together, PluginError for an unknown metric,
    SettingsError, WeightsError.
    """
    if strange := sorted(known.keys() - {field.name for field in fields(Pair)}):
        raise SettingsError(f"{', '.join(strange)} cannot be known of a pair of clips; leave it out.")
    paths = {name: Path(value) for name, value in known.items() if name in PATHS and value is not None}
    pair = Pair(source=Path(source), edit=Path(edit), **{**known, **paths})
    files = {
        name: Path(told) for name, told in (("lpips", lpips), ("inception", inception)) if told is not None
    }
    made = Evaluator(metrics=tuple(metrics), clip=clip, dino=dino, device=device, **files)
    return made.evaluate(pair, listener(progress))


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A pair that could not be measured, and why."""

    pair: Pair
    error: str


@dataclass
class Evaluator:
    """Metrics with the models they need, loaded once for any number of pairs.

    Examples:
        >>> evaluator = evenreel.Evaluator(metrics=("flicker",))
        >>> evaluator.metrics
        ('flicker',)
    """

    metrics: Sequence[str] = ()
    """Names; none for all that are registered."""
    clip: str | None = None
    """A folder in transformers' layout, or `mini`; None: `mini` for edits that the mini model made, else none."""
    lpips: Path | None = None
    """A safetensors file; see `Lpips.load`."""
    dino: str | None = None
    """A folder in transformers' layout."""
    inception: Path | None = None
    """A safetensors file; see `Inception.load`."""
    device: str = "auto"
    _clips: dict[str, ClipModel] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Find metrics and load what was named. Raises PluginError, WeightsError, SettingsError."""
        found = {name: find(name) for name in self.metrics} if self.metrics else registered()
        self._kinds: dict[str, type[Metric]] = {
            n: kind for n, kind in found.items() if isinstance(kind, type)
        }
        # What fails to load is shown as missing where everything was asked for, and is an error where it was named.
        self._broken = {n: Figure(None, str(e)) for n, e in found.items() if isinstance(e, PluginError)}
        self._order = list(found)
        self._needs = {need for kind in self._kinds.values() for need in kind.needs}
        with memory_errors_explained():
            self._lpips: Lpips | None = None
            if self.lpips is not None and "lpips" in self._needs:
                self._lpips = Lpips.load(expanded(self.lpips), device=self.device)
            self._dino: VisionTransformer | None = None
            if self.dino is not None and "dino" in self._needs:
                self._dino = load_dino(self.dino, device=self.device)
            self._inception: Inception | None = None
            if self.inception is not None and "inception" in self._needs:
                self._inception = Inception.load(expanded(self.inception), device=self.device)
            if self.clip is not None and "clip" in self._needs:
                self._clip(self.clip)

    def evaluate(self, pair: Pair, progress: Progress = silent) -> Evaluation:
        """Measure one pair. Raises ClipError for clips that cannot be read or do not fit together."""
        with memory_errors_explained():
            found = _recorded(pair)
            pair = found.pair
            frames = SideBySide(pair, pair.frames or (0, None))
            flow = self._flow(pair, frames)
            answer = self._answer(pair)
            clip = self.clip or ("mini" if found.model == "mini" else None)
            inputs = Inputs(
                prompt=pair.prompt or None,
                source_prompt=pair.source_prompt or None,
                mask=pair.mask is not None,
                truth=pair.truth is not None,
                answer=answer,
                flow=flow,
                clip=self._clip(clip) if clip is not None and "clip" in self._needs else None,
                lpips=self._lpips,
                dino=self._dino,
                inception=self._inception,
            )
            figures = measure(_reported(windows(frames, inputs), progress, frames), self._kinds, inputs)
        figures |= self._broken
        models = {name: getattr(inputs, name) for name in ("clip", "lpips", "dino", "inception")}
        return Evaluation(
            pair=pair,
            frames=frames.count,
            size=frames.size,
            figures={name: figures[name] for name in self._order},
            flow=None if flow is None else flow.name,
            models={n: {"name": m.name, "sha256": m.fingerprint} for n, m in models.items() if m is not None},
            notes=[*found.notes, *frames.notes, *([f"right answer: {answer.name}"] if answer else [])],
        )

    def evaluate_all(
        self, pairs: Sequence[Pair], progress: Progress = silent
    ) -> Iterator[Evaluation | Failure]:
        """Measure pairs one after the other; one that fails is told of, and the others go on."""
        progress("measure", 0, len(pairs))
        for done, pair in enumerate(pairs, 1):
            try:
                yield self.evaluate(pair)
            except EvenreelError as error:
                yield Failure(pair=pair, error=str(error))
            except Exception as error:  # noqa: BLE001 - a fault in one clip, or in a plug-in, must not cost the others
                yield Failure(pair=pair, error=f"unexpected {type(error).__name__}: {error}")
            progress("measure", done, len(pairs))

    def _clip(self, name: str) -> ClipModel:
        if name not in self._clips:
            self._clips[name] = load_clip(name, device=self.device)
        return self._clips[name]

    def _flow(self, pair: Pair, frames: SideBySide) -> FlowSource | None:
        if "flow" not in self._needs:
            return None
        if pair.flow is not None:
            return FlowFiles(pair.flow, frames.source.start, frames.expected)
        with contextlib.suppress(ImportError):
            return EstimatedFlow()
        return None

    def _answer(self, pair: Pair) -> Answer | None:
        """What can be seen of the right answer, of a clip of the world."""
        prompts = (pair.source_prompt, pair.prompt)
        of_the_world = all(prompt and understood(prompt) for prompt in prompts)
        if "answer" not in self._needs or pair.truth is None or not of_the_world:
            return None
        with contextlib.suppress(ImportError):
            return SeenAnswer()
        return None


@dataclass(frozen=True)
class _Recorded:
    """A pair completed from the record beside its edit."""

    pair: Pair
    model: str = ""
    notes: tuple[str, ...] = ()


def _recorded(pair: Pair) -> _Recorded:
    """Prompts and frames that were not given, from the record that `evenreel edit` left; explicit ones go first."""
    values = _settings_beside(pair.edit)
    if values is None:
        return _Recorded(pair)
    settings, source = values
    notes = []
    same = source == _hash_of(pair.source)
    if not same:
        notes.append("the record beside the edit was made from another source file than this one")
    frames = pair.frames
    if frames is None and same:  # another file may be the part that was edited, cut out
        start, end = settings.get("frames") or (0, None)
        frames = (start, end)
    completed = Pair(
        **{
            **vars(pair),
            "prompt": _first(pair.prompt, settings.get("prompt")),
            "source_prompt": _first(pair.source_prompt, settings.get("source_prompt")),
            "frames": frames,
        }
    )
    return _Recorded(completed, str(settings.get("model", "")), tuple(notes))


def _settings_beside(edit: Path) -> tuple[dict[str, Any], str] | None:
    """Settings of an edit and the hash of its source; None without a record."""
    try:
        found = record.read_record(record.record_path(edit))
    except (SettingsError, OutputError):
        return None
    return found["settings"], str((found.get("source") or {}).get("sha256", ""))


def _hash_of(source: Path) -> str:
    from evenreel.video import probe

    info = probe(source)
    return record.hash_of(info.images or (info.path,))


def _first(given: str | None, recorded: Any) -> str | None:
    return given if given is not None else (recorded if isinstance(recorded, str) else None)


def _reported(found: Iterable[Window], progress: Progress, frames: SideBySide) -> Iterator[Window]:
    total = frames.expected
    progress("measure", 0, total)
    for window in found:
        yield window
        progress("measure", window.first + len(window.source), total)
    if total is None:
        progress("measure", frames.count, frames.count)


def means(evaluations: Sequence[Evaluation]) -> dict[str, Estimate | None]:
    """Return the mean of each metric over the pairs that have it, with an interval from drawing sources anew.

    None where no pair has it.
    """
    names = dict.fromkeys(name for evaluation in evaluations for name in evaluation.figures)
    return {name: _mean(name, evaluations) for name in names}


def _mean(name: str, evaluations: Sequence[Evaluation]) -> Estimate | None:
    found = [
        (figure.value, str(evaluation.pair.source))
        for evaluation in evaluations
        if (figure := evaluation.figures.get(name)) is not None and figure.value is not None
    ]
    return cluster_bootstrap([v for v, _ in found], [source for _, source in found]) if found else None
