"""There and back: an edit whose right answer is known of any clip.

The model as it is edits a clip to the caption of another one; what the adapter learns is the edit back, whose right
answer is the clip itself (the cycle of CycleGAN, arXiv:1703.10593, without its second network).
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import replace

from evenreel.errors import DataError
from evenreel.hosts.base import Prompts
from evenreel.training.adapter.prepared_edit import PreparedEdit
from evenreel.types import Latents

NEAR = 16
"""Captions of other clips, drawn at random, of which the nearest is asked for."""


def asked_for(caption: str, own: Collection[str], captions: Sequence[str], rng: random.Random) -> str:
    """Return the caption of another clip that an edit asks for: of some, the one that shares most words.

    `own` are all captions of the clip, which ask for nothing. Raises: DataError where there are no others.
    """
    others = [other for other in captions if other not in own]
    if not others:
        raise DataError(
            "no clip has another caption than the one that is edited, so there is no edit to ask for; "
            "build the data from clips that show different things."
        )
    words = set(caption.split())

    def likeness(other: str) -> float:
        theirs = set(other.split())
        return len(words & theirs) / len(words | theirs)

    return max(rng.sample(others, min(len(others), NEAR)), key=likeness)


def turned(there: PreparedEdit, made: Latents) -> PreparedEdit:
    """Return the edits back from what was `made` (rows as in `there`): its sources are the right answers."""
    return replace(
        there,
        latents=made,
        answers=there.latents,
        source_text=there.text,
        text=there.source_text,
        prompts=tuple(Prompts(source=told.edit, edit=told.source) for told in there.prompts),
    )
