"""Runs what of a study has not been run yet, in this process or shared by several."""

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenreel.backbones import load_backbone
from evenreel.backbones.clip import load_clip
from evenreel.errors import SettingsError
from evenreel.study import kinds, lines, workers
from evenreel.study.items import Condition, Experiment, Item
from evenreel.study.settings import StudySettings
from evenreel.workflows.progress import Progress, silent


@dataclass(frozen=True)
class Planned:
    """An item that is to be there."""

    item: Item
    key: str
    picture: bool
    """Whether its frames are kept for the report."""
    files: Mapping[str, str]
    """Hashes of the files that its options name."""


@dataclass(frozen=True)
class Recipe:
    """What a process needs to run items; small, so that it travels."""

    model: str
    files: Mapping[str, Path]
    """Where the files lie that options name."""
    frames: Path
    """Folder for pictures."""

    @classmethod
    def of(cls, settings: StudySettings, out: Path) -> "Recipe":
        """Of a study that is kept in `out`. Raises: SettingsError for files that are not there."""
        logs = (settings.training_log,) if settings.training_log else ()
        files = {file: settings.path(file) for file in (*settings.adapters, *logs)}
        return cls(settings.model, files, out / "frames")

    def context(self) -> kinds.Context:
        """The models, loaded."""
        backbone = load_backbone(self.model)
        return kinds.Context(backbone, load_clip("mini", device=backbone.device), self.files)


def clips_of(settings: StudySettings, experiment: Experiment) -> range:
    """Numbers of the clips that an experiment is run on."""
    least = min(2, settings.clips) if experiment.share else 1
    return range(settings.first, settings.first + max(least, round(experiment.share * settings.clips)))


def items_of(settings: StudySettings, experiment: Experiment, condition: Condition) -> Iterator[Item]:
    """The items of one condition."""
    for clip in clips_of(settings, experiment):
        for seed in settings.seeds[: experiment.seeds]:
            yield Item(condition, clip, seed, settings.frames, settings.steps)


def plan(
    settings: StudySettings, experiments: Sequence[Experiment], prints: Mapping[str, str]
) -> list[Planned]:
    """All items, each once, clip by clip: a study that is cut has all conditions on fewer clips."""
    found: dict[str, Planned] = {}
    for experiment in experiments:
        if experiment.not_run:
            continue
        for condition in experiment.conditions:
            files = {name: prints[f"file {file}"] for name, file in condition.files.items()}
            for item in items_of(settings, experiment, condition):
                picture = item.clip < settings.first + settings.strips and item.seed == settings.seeds[0]
                found.setdefault(key := item.key(prints), Planned(item, key, picture, files))
    return sorted(found.values(), key=lambda planned: (planned.item.clip, planned.item.seed))


def run(
    settings: StudySettings,
    experiments: Sequence[Experiment],
    out: Path,
    prints: Mapping[str, str],
    progress: Progress = silent,
    *,
    context: kinds.Context | None = None,
    processes: int = 1,
) -> dict[str, dict[str, Any]]:
    """Run the items that `out`/items.jsonl lacks or holds as failed; returns all of them by key.

    An item that fails is kept with its error, counted in the report, and tried again by the next run. Several
    `processes` compute with one thread each, and this one writes. `context` is used in place of models to be loaded,
    in one process. Raises: any EvenreelError that concerns the study as a whole.
    """
    known = lines.read(out / "items.jsonl")
    missing = [one for one in plan(settings, experiments, prints) if "figures" not in known.get(one.key, {})]
    recipe = Recipe.of(settings, out)
    with lines.Log(out / "items.jsonl") as log:
        progress("study", 0, len(missing))
        if not missing:
            return known
        if processes > 1:
            found = workers.shared(recipe, missing, processes)
        else:
            ready = context or recipe.context()
            found = (run_item(one, ready, recipe.frames) for one in missing)
        for done, line in enumerate(found, 1):
            known[line["key"]] = line
            log.append(line)
            progress("study", done, len(missing))
    return known


def run_item(planned: Planned, context: kinds.Context, frames: Path) -> dict[str, Any]:
    """One item as a line of the record. Raises: SettingsError where every item would fail the same way."""
    item = planned.item
    line: dict[str, Any] = {
        "key": planned.key,
        "kind": item.condition.kind,
        "options": dict(item.condition.options),
        "clip": item.clip,
        "seed": item.seed,
        "frames": item.frames,
        "steps": item.steps,
        "model": context.backbone.fingerprint,
        "files": dict(planned.files),
    }
    start = time.perf_counter()
    try:
        outcome = kinds.KINDS[item.condition.kind](context, item)
        if planned.picture and outcome.picture is not None:
            line["prompt"] = outcome.prompt
            line["picture"] = kinds.save_picture(outcome.picture, frames / f"{planned.key}.jpg")
        line["maps"] = {
            label: kinds.save_picture(row, frames / f"{planned.key}-{number}.jpg")
            for number, (label, row) in enumerate(outcome.maps.items())
        }
        line["series"] = {
            name: [round(value, 6) for value in values] for name, values in outcome.series.items()
        }
        line["figures"] = dict(outcome.figures)
    except SettingsError:
        raise
    except Exception as error:  # noqa: BLE001 - one clip must not end a night's run; it is counted as failed
        line["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
        line["where"] = traceback.format_exc().splitlines()[-3].strip()
    line = {name: value for name, value in line.items() if value != {}}
    return line | {"seconds": round(time.perf_counter() - start, 3)}
