"""Evaluations as JSON, for programs and for the file that -o writes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evenreel.errors import OutputError, PluginError, argument
from evenreel.files import write_atomically
from evenreel.metrics.base import Figure, find
from evenreel.workflows.editing.records import record
from evenreel.workflows.evaluation.evaluate import EVALUATION_VERSION, Evaluation, Failure, means
from evenreel.workflows.evaluation.pairs import Pair


def one(evaluation: Evaluation) -> dict[str, Any]:
    """Describe a single pair and its figures, as plain values."""
    return {**_head(), **_evaluation(evaluation)}


def many(
    found: Sequence[Evaluation | Failure], unpaired: Sequence[str] = (), benchmark: str | None = None
) -> dict[str, Any]:
    """Describe any number of pairs, with means over those that could be measured; failures are counted, never dropped.

    A mean over a single source has no interval: one that is as narrow as a point would look certain.
    """
    done = [item for item in found if isinstance(item, Evaluation)]
    failed = [item for item in found if isinstance(item, Failure)]
    measured = {
        name: None
        if mean is None
        else {
            **_kind(name),
            "mean": mean.mean,
            "median": mean.median,
            "low": mean.low if mean.count > 1 else None,
            "high": mean.high if mean.count > 1 else None,
            "sources": mean.count,
            "pairs": sum(e.figures[name].value is not None for e in done if name in e.figures),
        }
        for name, mean in means(done).items()
    }
    return {
        **_head(),
        "benchmark": benchmark,
        "means": measured,
        "pairs": [_evaluation(item) for item in done],
        "failures": [{**_pair(item.pair), "error": item.error} for item in failed],
        "unpaired": list(unpaired),
    }


def write(values: Mapping[str, Any], path: Path) -> None:
    """Put an evaluation into a file, whole or not at all. Raises OutputError, also in place of anything else."""
    check_place(path)
    write_atomically(path, record.as_json(values))


def check_place(path: Path) -> None:
    """Refuse to replace what is not an evaluation: the record of an edit has nearly the same name."""
    try:
        if path.exists() and "evaluation_version" not in json.loads(path.read_text(encoding="utf-8")):
            raise ValueError
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise OutputError(
            f"{path} exists and is not an evaluation; choose another {argument('output')}."
        ) from error


def _head() -> dict[str, Any]:
    return {"evaluation_version": EVALUATION_VERSION, "made": record.now(), "versions": record.versions()}


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    return {
        **_pair(evaluation.pair),
        "frames": evaluation.frames,
        "size": list(evaluation.size),
        "flow": evaluation.flow,
        "models": record.plain(evaluation.models),
        "notes": list(evaluation.notes),
        "metrics": {name: _figure(name, figure) for name, figure in evaluation.figures.items()},
    }


def _pair(pair: Pair) -> dict[str, Any]:
    values = record.plain(pair)
    values["source_frames"] = values.pop("frames")
    return values


def _figure(name: str, figure: Figure) -> dict[str, Any]:
    said = {"unavailable": figure.unavailable, "note": figure.note}
    return {"value": figure.value, **_kind(name), **{key: text for key, text in said.items() if text}}


def _kind(name: str) -> dict[str, str]:
    try:
        kind = find(name)
    except PluginError:
        return {}
    return {"unit": kind.unit, "better": kind.better}
