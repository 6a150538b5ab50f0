"""Runs what of a study has not been run yet, in this process or shared by several."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evenreel.progress import Progress, silent
from evenreel.study import item_log
from evenreel.study.items import Condition, Experiment, Item
from evenreel.study.run import actions, workers
from evenreel.study.run.item_run import Planned, Recipe, run_item
from evenreel.study.settings import StudySettings


def clips_of(settings: StudySettings, experiment: Experiment) -> range:
    """Return numbers of the clips that an experiment is run on."""
    least = min(2, settings.clips) if experiment.share else 1
    return range(settings.first, settings.first + max(least, round(experiment.share * settings.clips)))


def items_of(settings: StudySettings, experiment: Experiment, condition: Condition) -> Iterator[Item]:
    """Yield the items of one condition."""
    for clip in clips_of(settings, experiment):
        for seed in settings.seeds[: experiment.seeds]:
            yield Item(condition, clip, seed, settings.frames, settings.steps, settings.inversion)


def plan(
    settings: StudySettings, experiments: Sequence[Experiment], prints: Mapping[str, str]
) -> list[Planned]:
    """Return all items, each once, clip by clip: a study that is cut has all conditions on fewer clips."""
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
    context: actions.Context | None = None,
    processes: int = 1,
) -> dict[str, dict[str, Any]]:
    """Run the items that `out`/items.jsonl lacks or holds as failed; returns all of them by key.

    An item that fails is kept with its error, counted in the report, and tried again by the next run. Several
    `processes` compute with one thread each, and this one writes. `context` is used in place of models to be loaded,
    in one process. Raises: any EvenreelError that concerns the study as a whole.
    """
    known = item_log.read(out / "items.jsonl")
    missing = [one for one in plan(settings, experiments, prints) if "figures" not in known.get(one.key, {})]
    recipe = Recipe.of(settings, out)
    with item_log.Log(out / "items.jsonl") as log:
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
