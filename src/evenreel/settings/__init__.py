"""What runs can be told: frozen, self-checking dataclasses, and the one reader that makes them from plain values."""

from evenreel.settings.edits import EditSettings
from evenreel.settings.kinds import Before, NotEmpty, Option, OptionValue, Place, Range, Size, check_range
from evenreel.settings.reader import plain, read, settle
from evenreel.settings.runs import GenerateSettings, RunSettings
from evenreel.settings.uses import AdapterUse, ControlUse, RegionUse

__all__ = [
    "AdapterUse",
    "Before",
    "ControlUse",
    "EditSettings",
    "GenerateSettings",
    "NotEmpty",
    "Option",
    "OptionValue",
    "Place",
    "Range",
    "RegionUse",
    "RunSettings",
    "Size",
    "check_range",
    "plain",
    "read",
    "settle",
]
