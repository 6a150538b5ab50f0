"""What evenreel needs and may be given: libraries and their versions, weights of metrics; imports none of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from evenreel.checkout import project

if TYPE_CHECKING:
    from packaging.requirements import Requirement

LIBRARIES = (
    "torch",
    "diffusers",
    "accelerate",
    "transformers",
    "safetensors",
    "huggingface-hub",
    "av",
    "numpy",
    "pillow",
    "einops",
    "psutil",
)

WEIGHTS = {
    "clip": "EVENREEL_CLIP",
    "lpips": "EVENREEL_LPIPS",
    "dino": "EVENREEL_DINO",
    "inception": "EVENREEL_INCEPTION",
}
"""Weights that metrics may need, and the environment variables that name them."""


def version(library: str) -> str | None:
    """Return the version of an installed library, None where it is not installed."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Library:
    """A library that evenreel declares, and what is installed of it."""

    name: str
    wanted: str
    """Versions that are good, as `>=2.9`; empty where all are."""
    installed: str | None
    """The version that is there; None without."""
    fits: bool
    """Whether that version is one of those."""

    @property
    def command(self) -> str:
        """What installs a version that is good."""
        return f"pip install '{self.name}{self.wanted}'"


def libraries(extra: str = "") -> tuple[Library, ...]:
    """Return what evenreel declares for all its uses, or for those of an extra alone."""
    if version("packaging") is None:  # which reads what is declared
        return (Library("packaging", "", None, False),)
    return tuple(_library(one) for one in _declared(extra))


def suspect() -> str | None:
    """Return a sentence on a library that is absent or of a version that evenreel does not work with; None if all fit.

    Such a library is the likeliest reason for whatever fails.
    """
    for one in libraries():
        if not one.fits:
            state = "is not installed" if one.installed is None else f"{one.installed} is installed"
            return f"{one.name} {state} and {one.wanted or 'it'} is needed ({one.command})"
    return None


def suspected(message: str) -> str:
    """Return a message on what fails, which names such a library as the first thing to mend."""
    found = suspect()
    if found is None or found in message:
        return message
    return f"{message.rstrip('.')}; but first mend the libraries: {found}."


def _declared(extra: str) -> Iterator["Requirement"]:
    from packaging.requirements import Requirement

    table = project()
    if table is not None:
        lines = table["optional-dependencies"][extra] if extra else table["dependencies"]
        for line in lines:
            found = Requirement(line)
            if found.name == "evenreel":  # an extra may be made of others
                for other in sorted(found.extras):
                    yield from _declared(other)
            elif found.marker is None or found.marker.evaluate():
                yield found
        return
    try:
        lines = metadata.requires("evenreel") or []
    except metadata.PackageNotFoundError:
        lines = []
    for line in lines:
        found = Requirement(line)
        of_an_extra = found.marker is not None and "extra" in str(found.marker)
        counts = found.marker is None or found.marker.evaluate({"extra": extra})
        if found.name != "evenreel" and counts and of_an_extra == bool(extra):
            yield found


def _library(requirement: "Requirement") -> Library:
    there = version(requirement.name)
    fits = there is not None and requirement.specifier.contains(there, prereleases=True)
    wanted = re.sub(r"\s", "", str(requirement.specifier))
    return Library(requirement.name, wanted, there, fits)
