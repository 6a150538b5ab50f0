"""Runs what of a study has not been run yet."""

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenreel.backbones import Backbone, mini
from evenreel.backbones.safetensors_file import sha256
from evenreel.errors import SettingsError
from evenreel.metrics.judge import Judge
from evenreel.study import kinds, lines
from evenreel.study.items import Condition, Experiment, Item
from evenreel.study.settings import StudySettings
from evenreel.workflows.progress import Progress, silent


@dataclass(frozen=True)
class Planned:
    """An item and the experiments' conditions that it serves."""

    item: Item
    key: str
    picture: bool
    """Whether its frames are kept for the report."""


def items_of(settings: StudySettings, experiment: Experiment, condition: Condition) -> Iterator[Item]:
    """The items of one condition."""
    seeds = settings.seeds[:1] if experiment.once else settings.seeds
    for clip in range(settings.first, settings.first + settings.clips):
        for seed in seeds:
            yield Item(condition, clip, seed, settings.frames, settings.steps)


def plan(
    settings: StudySettings, experiments: Sequence[Experiment], fingerprints: Mapping[str, str]
) -> list[Planned]:
    """All items, each once, clip by clip: a study that is cut has all conditions on fewer clips."""
    found: dict[str, Planned] = {}
    for experiment in experiments:
        if experiment.not_run:
            continue
        for condition in experiment.conditions:
            for item in items_of(settings, experiment, condition):
                picture = item.clip < settings.first + settings.strips and item.seed == settings.seeds[0]
                found.setdefault(key := item.key(fingerprints), Planned(item, key, picture))
    return sorted(found.values(), key=lambda planned: (planned.item.clip, planned.item.seed))


def fingerprints(settings: StudySettings, backbone: Backbone) -> dict[str, str]:
    """Hashes of the weights that items depend on."""
    prints = {"model": backbone.fingerprint}
    if settings.adapter:
        path = mini.ADAPTER if settings.adapter == "mini" else Path(settings.adapter)
        if not path.is_file():
            raise SettingsError(f"{path}: there is no such adapter; name another, or none.")
        prints["adapter"] = sha256(path)
    return prints


def run(
    settings: StudySettings,
    experiments: Sequence[Experiment],
    out: Path,
    backbone: Backbone,
    progress: Progress = silent,
) -> dict[str, dict[str, Any]]:
    """Run the items that `out`/items.jsonl lacks or holds as failed; returns all of them by key.

    An item that fails is kept with its error, counted in the report, and tried again by the next run.
    Raises: any EvenreelError that concerns the study as a whole.
    """
    judge = Judge.load(mini.FOLDER / "judge.safetensors")
    known = lines.read(out / "items.jsonl")
    planned = plan(settings, experiments, fingerprints(settings, backbone))
    missing = [one for one in planned if "figures" not in known.get(one.key, {})]
    with lines.Log(out / "items.jsonl") as log:
        progress("study", 0, len(missing))
        for done, one in enumerate(missing, 1):
            line = _run(one, kinds.Context(backbone, judge), out / "frames")
            known[one.key] = line
            log.append(line)
            progress("study", done, len(missing))
    return known


def _run(planned: Planned, context: kinds.Context, frames: Path) -> dict[str, Any]:
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
    }
    start = time.perf_counter()
    try:
        outcome = kinds.KINDS[item.condition.kind](context, item)
        if planned.picture and outcome.picture is not None:
            line["prompt"] = outcome.prompt
            line["picture"] = kinds.save_picture(outcome.picture, frames / f"{planned.key}.jpg")
        line |= {"figures": outcome.figures}
    except SettingsError:
        raise  # the study asks for what cannot be: every item would fail the same way
    except Exception as error:  # noqa: BLE001 - one clip must not end a night's run; it is counted as failed
        line["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
        line["where"] = traceback.format_exc().splitlines()[-3].strip()
    return line | {"seconds": round(time.perf_counter() - start, 3)}
