"""What a study is made of: experiments, their conditions, and the single items that are run and kept."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MEASURES_VERSION = 1
"""Raised when a figure's definition changes, so that items of before are computed again."""


@dataclass(frozen=True)
class Condition:
    """One way of doing things, under a name that is unique in its experiment."""

    name: str
    kind: str = "edit"
    """What is done with a clip; a key of `kinds.KINDS`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Told to it; of an edit: settings that differ from the defaults."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table or a figure of a paper, or one of ours."""

    name: str
    title: str
    source: str
    """Where it comes from."""
    question: str
    """What it is to answer, in one sentence."""
    conditions: tuple[Condition, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    """(condition, the one that it is compared with, clip by clip and seed by seed)."""
    figures: tuple[str, ...] = ("asked", "kept", "truth_psnr", "warp_error", "flicker")
    """What its table shows."""
    paper: tuple[tuple[str, ...], ...] = ()
    """What the paper printed, as a table with a head."""
    caveat: str = ""
    """What to keep in mind when reading the paper's figures."""
    not_run: str = ""
    """Why it is not run, where it is not."""
    once: bool = False
    """Whether seeds change nothing."""


@dataclass(frozen=True)
class Item:
    """One condition on one clip with one seed."""

    condition: Condition
    clip: int
    seed: int
    frames: int
    steps: int

    def key(self, fingerprints: Mapping[str, str]) -> str:
        """Hash of all that decides the outcome, so that experiments share items and a changed model shares none.

        Of fingerprints, that of the `adapter` counts only where one is used.
        """
        asked = self.condition.options.get("adapter")
        prints = {name: value for name, value in fingerprints.items() if name != "adapter" or asked}
        content = {
            "kind": self.condition.kind,
            "options": dict(self.condition.options),
            "clip": self.clip,
            "seed": self.seed,
            "frames": self.frames,
            "steps": self.steps,
            "measures": MEASURES_VERSION,
            **prints,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]
