"""What a study is made of: experiments, their conditions, and the single items that are run and kept."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evenreel.settings import EditSettings

MEASURES_VERSION = 2
"""Raised when a figure's definition changes, so that items of before are computed again."""

FILES = ("adapter", "log")
"""Options that name files."""
EDITS = ("edit", "softened", "attention")
"""Kinds of items that are edits, which the defaults of edit, host and inversion decide too."""
INVERSION = EditSettings.inversion
"""What edits are made with where neither study nor experiment says."""
DRAWN = frozenset({"ddpm", "flow-edit"})
"""Inversions that draw noise, so that another seed makes another edit."""
CONTROLS = ("source", "truth", "frozen", "shuffled", "blurred")
"""Results that are not edits: the source itself; the right answer; its first frame for ever; its frames in a random
order; it without detail."""


@dataclass(frozen=True)
class Condition:
    """One way of doing things, under a name that is unique in its experiment."""

    name: str
    kind: str = "edit"
    """What is done with a clip; a key of `actions.KINDS`."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Told to it; of an edit: settings that differ from the defaults."""
    seedless: bool = False
    """Whether nothing is drawn at random, but by some inversions, so that all seeds share one item."""

    @property
    def files(self) -> dict[str, str]:
        """Options that name files, of which an item depends on the content."""
        return {name: self.options[name] for name in FILES if self.options.get(name)}


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
    treatment: str = ""
    """What the first of every pair has and the other has not, where that is one thing; its name ends with it."""
    tested: tuple[str, ...] = ("asked", "kept", "truth_psnr", "warp_error")
    """The figures in which pairs are compared; the more there are, the stricter Holm's method is with each."""
    paper: tuple[tuple[str, ...], ...] = ()
    """What the paper printed, as a table with a head."""
    beside: tuple[tuple[str, str], ...] = ()
    """(how the paper's column begins, the figure that stands beside it); its rows are the hosts of `pairs`."""
    caveat: str = ""
    """What to keep in mind when reading the paper's figures."""
    not_run: str = ""
    """Why it is not run, where it is not."""
    share: float = 1.0
    """Share of the study's clips that it is run on, at least two; 0 for one clip, to be looked at."""
    seeds: int | None = None
    """How many of the study's seeds it is run with; None for all."""


@dataclass(frozen=True)
class Item:
    """One condition on one clip with one seed."""

    condition: Condition
    clip: int
    seed: int
    frames: int
    steps: int
    inversion: str = INVERSION
    """Of the study's edits, where the condition names none."""

    @property
    def seedless(self) -> bool:
        """Whether it is the same with every seed."""
        drawn = self.condition.kind in EDITS and self.inverted_by in DRAWN
        return self.condition.seedless and not drawn

    @property
    def inverted_by(self) -> str:
        """The inversion of an edit."""
        return self.condition.options.get("inversion", self.inversion)

    def key(self, prints: Mapping[str, str]) -> str:
        """Return the hash of all that decides the outcome, so that experiments share items and a changed model shares
        none.

        Of `prints` (see `runner.fingerprints`), those of files and of defaults count where they are used. A file counts
        by its content, whatever its name.
        """
        options = dict(self.condition.options)
        options |= {name: prints[f"file {file}"] for name, file in self.condition.files.items()}
        used = {"model", "clip", "judge", "segmenter", "lpips", "dino", "inception", f"clip {self.clip}"}
        if self.condition.kind in EDITS:
            used |= {"edit", f"host {options['host']}", f"inversion {self.inverted_by}"}
            if self.inverted_by == self.inversion:
                options.pop("inversion", None)
        if self.condition.kind == "drawn":
            kind = options.get("control")
            used |= {"generate", "control", f"control {kind}", f"maps {kind}", f"host {options['host']}"}
        content = {
            "kind": self.condition.kind,
            "options": options,
            "clip": self.clip,
            "seed": None if self.seedless else self.seed,
            "frames": self.frames,
            "steps": self.steps,
            "measures": MEASURES_VERSION,
            "prints": {name: prints[name] for name in sorted(used & prints.keys())},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]
