"""What the registered metrics are, and whether they can be computed here."""

import importlib.util
import inspect
from collections.abc import Collection
from dataclasses import dataclass

from evenreel.errors import PluginError
from evenreel.installed import WEIGHTS
from evenreel.metrics.base import NEEDS, Metric, definition, find, registered

OPTIONS = {
    "prompt": "--prompt",
    "source_prompt": "--source-prompt",
    "mask": "--mask",
    "truth": "--truth",
    "answer": "a clip of the world",
    "clip": "--clip",
    "lpips": "--lpips",
    "dino": "--dino",
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
    """Every registered metric. `given` are the needs that are known to be met (by environment variables, say)."""
    return [
        _broken(name, kind) if isinstance(kind, PluginError) else _described(name, kind, given)
        for name, kind in registered().items()
    ]


def describe_metric(name: str, given: Collection[str] = ()) -> MetricDescription:
    """One metric. Raises PluginError for an unknown one."""
    return _described(name, find(name), given)


def _described(name: str, kind: type[Metric], given: Collection[str]) -> MetricDescription:
    lacking = [need for need in kind.needs if need in WEIGHTS and need not in given]
    if "flow" in kind.needs and importlib.util.find_spec("cv2") is None:
        lacking.append("flow")
    return MetricDescription(
        name=name,
        label=kind.label or name,
        family=kind.family,
        unit=kind.unit,
        better=kind.better,
        definition=definition(kind),
        details=inspect.getdoc(kind) or "",
        needs=tuple(OPTIONS.get(need, f"--{need}") for need in kind.needs if need != "flow"),
        missing=tuple(NEEDS[need] for need in lacking),
        lacking=tuple(lacking),
    )


def _broken(name: str, error: PluginError) -> MetricDescription:
    return MetricDescription(name, name, "other", "", "", str(error), str(error), (), (str(error),))
