"""The settings of a record as they were when it was made, whatever the defaults are today.

Records keep all that hosts and inversions were told and all of their defaults of then. Where today's defaults would
give another value, the recorded one is told. A setting that is newer than the record takes what its field says of
`Before`; one that is gone is an error, as no one can repeat it.
"""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, cast

from evenreel.errors import SettingsError
from evenreel.hosts.base import create_host, idle_settings
from evenreel.inversions.base import create_inversion
from evenreel.outputs import plain
from evenreel.settings import EditSettings, GenerateSettings, RunSettings
from evenreel.settings.fields import leaves
from evenreel.settings.kinds import Before
from evenreel.workflows.editing.setup.idle import occasion_of

logger = logging.getLogger(__name__)


def settings_of_then(values: Mapping[str, Any], *, from_text: bool) -> EditSettings | GenerateSettings:
    """Return the settings that a record was made with. Raises: SettingsError, PluginError for what is not there."""
    kind = GenerateSettings if from_text else EditSettings
    told = _with_newer(kind, values["settings"])
    if told.get("dtype", "auto") == "auto" and _machine_dtype(values) == "float32":
        told["dtype"] = "float32"  # which is what `auto` was on a CPU
    settings = kind.from_json(told)
    changes = _host_options(settings, values)
    if isinstance(settings, EditSettings):
        changes |= _inversion_options(settings, values)
    return dataclasses.replace(settings, **changes)


def _host_options(settings: RunSettings, values: Mapping[str, Any]) -> dict[str, Any]:
    recorded = _recorded(values.get("host"), settings.host)
    if recorded is None:
        return {}
    with_source = isinstance(settings, EditSettings)
    today = create_host(settings.host, settings.host_options, with_source=with_source)
    other = _other_than(today, recorded, f"host {settings.host}", values)
    then = create_host(settings.host, {**settings.host_options, **other}, with_source=with_source)
    idle = idle_settings(then, occasion_of(settings, settings.guidance_scale, None))
    other = {name: value for name, value in other.items() if name not in idle}
    return {"host_options": {**settings.host_options, **other}} if other else {}


def _inversion_options(settings: EditSettings, values: Mapping[str, Any]) -> dict[str, Any]:
    recorded = _recorded(values.get("inversion"), settings.inversion)
    if recorded is None:
        return {}
    today = create_inversion(settings)
    other = _other_than(today, recorded, f"inversion {settings.inversion}", values)
    return {"inversion_options": {**settings.inversion_options, **other}} if other else {}


def _recorded(part: object, name: str) -> Mapping[str, Any] | None:
    """The settings that a record's part lists; None where it lists none, as records of other tools may."""
    if not isinstance(part, Mapping):
        return None
    found = cast("Mapping[str, Any]", part)
    settings = found.get("settings")
    if not isinstance(settings, Mapping) or found.get("name", name) != name:
        return None
    return cast("Mapping[str, Any]", settings)


def _other_than(
    today: Any, recorded: Mapping[str, Any], whose: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    """What must be told so that settings are those recorded."""
    kind = cast("type[object]", type(today))
    now = {leaf.name: (leaf, plain(leaf.of(today))) for leaf in leaves(kind)}
    if gone := sorted(recorded.keys() - now.keys()):
        versions = values.get("versions")
        made_by = (
            cast("Mapping[str, Any]", versions).get("evenreel") if isinstance(versions, Mapping) else None
        )
        raise SettingsError(
            f"the record's {whose} had a setting {gone[0][:40]}, which this evenreel does not have; repeat it with "
            f"evenreel {made_by or 'of then'!s:.20}."
        )
    other: dict[str, Any] = {}
    for name, (leaf, value) in now.items():
        before = next((one for one in leaf.added if isinstance(one, Before)), None)
        if name in recorded:
            if recorded[name] != value:
                other[name] = recorded[name]
        elif before is not None:
            other[name] = before.value
        else:
            logger.warning(
                "%s has a setting %s that the record does not know, and it stays at %s: the frames may be others",
                *(whose, name, value),
            )
    return other


def _machine_dtype(values: Mapping[str, Any]) -> object:
    machine = values.get("machine")
    return cast("Mapping[str, Any]", machine).get("dtype") if isinstance(machine, Mapping) else None


def _with_newer(kind: type[RunSettings], told: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run with those that are newer than the record at what was done before there were any."""
    then = {
        leaf.name: one.value
        for leaf in leaves(kind)
        for one in leaf.added
        if isinstance(one, Before) and leaf.name not in told
    }
    return {**told, **then}
