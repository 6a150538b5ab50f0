"""Prompts that change along a clip: `0: a red circle | 24: a blue star`."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from evenreel.errors import SettingsError, argument

_CUE = re.compile(r"\s*(\d{1,9})\s*:\s*(.*?)\s*", flags=re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class Schedule:
    """What a clip shows, from which frame on; frames are counted from the first one of the result."""

    cues: tuple[tuple[int, str], ...]
    """Frames, ascending from 0, and the prompt from each on."""
    glide: int = 0
    """Frames before each change in which the earlier prompt gives way to the later one."""
    name: str = "prompt"
    """The setting that says so, for errors."""

    @classmethod
    def of(cls, prompt: str, glide: int = 0, syntax: str | None = None, name: str = "prompt") -> "Schedule":
        """Read a prompt; one that names no frames holds for all of them. Raises: SettingsError.

        A prompt is a schedule where it begins with a frame's number and a colon; where `syntax` is `plain` none is.
        """
        if not cls.is_told(prompt, syntax):
            if glide:
                raise SettingsError(
                    f"{argument('prompt_glide')} has no effect on a prompt that does not change; leave it out, or give "
                    'a prompt such as "0: a red circle | 24: a blue star".'
                )
            return cls(((0, prompt),), name=name)
        cues = tuple(_cue(text, name) for text in prompt.split("|"))
        if cues[0][0] != 0:
            raise SettingsError(
                f"{argument(name)} must say what frame 0 shows, and begins at frame {cues[0][0]}."
            )
        for (before, _), (after, _) in pairwise(cues):
            if after <= before:
                raise SettingsError(
                    f"{argument(name)} names frame {after} behind frame {before}; put them in order, each once."
                )
            if glide >= after - before:
                raise SettingsError(
                    f"{argument('prompt_glide')} must be less than the {after - before} frames from {before} to "
                    f"{after}, got {glide}."
                )
        return cls(cues, glide, name)

    @classmethod
    def all_of(
        cls, told: Sequence[tuple[str, str]], glide: int = 0, syntax: str | None = None
    ) -> tuple["Schedule", ...]:
        """Read several settings, (name, prompt) each, of which those that change glide. Raises: SettingsError, also for
        a glide where none changes."""
        changes = [cls.is_told(prompt, syntax) for _, prompt in told]
        glides = [glide if change or not any(changes) else 0 for change in changes]
        return tuple(
            cls.of(prompt, own, syntax, name) for (name, prompt), own in zip(told, glides, strict=True)
        )

    @staticmethod
    def is_told(prompt: str, syntax: str | None = None) -> bool:
        """Return whether a prompt names frames."""
        return syntax != "plain" and re.match(r"\s*\d+\s*:", prompt, flags=re.ASCII) is not None

    @property
    def texts(self) -> tuple[str, ...]:
        """All different prompts, in the order in which they first come."""
        return tuple(dict.fromkeys(text for _, text in self.cues))

    @property
    def is_constant(self) -> bool:
        """Whether all frames show the same."""
        return len(self.texts) == 1

    def texts_in(self, frames: Iterable[int]) -> tuple[str, ...]:
        """Return the different prompts that some frames show, also in part."""
        if self.is_constant:
            return self.texts
        shown = {text for frame in frames for text in self.shares(frame)}
        return tuple(text for text in self.texts if text in shown)

    def check(self, frames: int) -> None:
        """Raise SettingsError where a change lies behind the end of a clip."""
        last = self.cues[-1][0]
        if last >= frames:
            raise SettingsError(
                f"{argument(self.name)} changes at frame {last}, and the clip has {frames}, counted from 0; choose an "
                "earlier frame."
            )

    def shares(self, frame: int) -> dict[str, float]:
        """Return how much of each prompt a frame shows; the shares add up to 1, and those that are 0 are left out."""
        number = max(index for index, (start, _) in enumerate(self.cues) if start <= frame)
        now = self.cues[number][1]
        if number + 1 < len(self.cues):
            start, later = self.cues[number + 1]
            begun = frame - (start - self.glide) + 1
            if begun > 0 and later != now:
                share = begun / (self.glide + 1)
                return {now: 1 - share, later: share}
        return {now: 1.0}


def _cue(text: str, name: str) -> tuple[int, str]:
    match = _CUE.fullmatch(text)
    if match is None:
        raise SettingsError(
            f"{argument(name)} must be FRAME: PROMPT between its bars, got {text.strip()[:40]!r}; write it as in "
            '"0: a red circle | 24: a blue star".'
        )
    if not match[2]:
        raise SettingsError(
            f"{argument(name)} says nothing of what frame {match[1]} shows; write it behind the colon."
        )
    return int(match[1]), match[2]
