"""What the registered metrics are, and whether they can be computed here."""

import importlib.util
import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from evenreel import registry
from evenreel.errors import PluginError
from evenreel.installed import WEIGHTS
from evenreel.metrics.needs import NEEDS, first_paragraph, place
from evenreel.sources import read_class

OPTIONS = {
    "prompt": "--prompt",
    "source_prompt": "--source-prompt",
    "mask": "--mask",
    "truth": "--truth",
    "answer": "a clip of the world",
    "clip": "--clip",
    "lpips": "--lpips",
    "dino": "--dino",
    "inception": "--inception",
}
"""How a need is met on the command line; the record beside an edit meets the first two."""


@dataclass(frozen=True)
class MetricDescription:
    """A metric for people."""

    name: str
    label: str
    """Its name in tables for people."""
    family: str
    unit: str
    better: str
    definition: str
    """One sentence."""
    details: str
    """Everything that pins it down."""
    needs: tuple[str, ...]
    """What it needs besides the clips."""
    missing: tuple[str, ...]
    """What of that is not here, and how to give it; clips' own things (prompts, masks) are taken to be given."""
    lacking: tuple[str, ...] = ()
    """The same as keys of NEEDS."""

    @property
    def available(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing


def describe_metrics(given: Collection[str] = ()) -> list[MetricDescription]:
    """Return every registered metric. `given` are the needs that are known to be met (by variables, say)."""
    targets = registry.targets(registry.METRICS)
    found: list[MetricDescription] = []
    for name in registry.names(registry.METRICS):
        source = read_class(targets[name]) if name in targets else None
        if source is not None and "better" in source.values:
            found.append(_described(name, source.values, source.doc, given))
            continue
        try:
            found.append(describe_metric(name, given))
        except PluginError as error:
            found.append(
                MetricDescription(name, name, "other", "", "", str(error), str(error), (), (str(error),))
            )
    return sorted(found, key=lambda one: place(one.name, one.family))


def describe_metric(name: str, given: Collection[str] = ()) -> MetricDescription:
    """Return one metric. Raises: PluginError for an unknown one."""
    from evenreel.metrics.base import find

    kind = find(name)
    values = {key: getattr(kind, key) for key in ("label", "family", "unit", "better", "needs")}
    return _described(name, values, inspect.getdoc(kind) or "", given)


def _described(name: str, said: Mapping[str, Any], doc: str, given: Collection[str]) -> MetricDescription:
    lacking = [need for need in said["needs"] if need in WEIGHTS and need not in given]
    if "flow" in said["needs"] and importlib.util.find_spec("cv2") is None:
        lacking.append("flow")
    return MetricDescription(
        name=name,
        label=said["label"] or name,
        family=said["family"],
        unit=said["unit"],
        better=said["better"],
        definition=first_paragraph(doc),
        details=doc,
        needs=tuple(OPTIONS.get(need, f"--{need}") for need in said["needs"] if need != "flow"),
        missing=tuple(NEEDS[need] for need in lacking),
        lacking=tuple(lacking),
    )
