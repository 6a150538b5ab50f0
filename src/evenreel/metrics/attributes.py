"""For clips of the world: whether the judge sees what was asked for, and the rest as it was."""

from abc import abstractmethod
from collections import Counter

from evenreel.metrics.base import Metric
from evenreel.metrics.unavailable import UnavailableError
from evenreel.metrics.window import Inputs, Window
from evenreel.world import ATTRIBUTES
from evenreel.world.captions import understood

NO_CAPTION = "the prompt {!r} is not a caption of the mini model's world"


class _Attributes(Metric):
    """A share of attributes in which most frames agree with the prompt."""

    family = "world"
    unit = "%"
    better = "higher"
    needs = ("prompt", "source_prompt")
    empty = ""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        before, after = (_understood(prompt) for prompt in (inputs.source_prompt, inputs.prompt))
        self.wanted = {name: after[name] for name in self.chosen(before, after)}
        if not self.wanted:
            raise UnavailableError(self.empty)
        self.seen = {name: Counter[str]() for name in self.wanted}

    @abstractmethod
    def chosen(self, before: dict[str, str], after: dict[str, str]) -> list[str]:
        """Return which attributes count."""

    def add(self, window: Window) -> None:
        """Note what the judge sees in each frame."""
        for verdict in window.verdicts:
            for name, counter in self.seen.items():
                counter[verdict[name]] += 1

    def value(self) -> float:
        """Return the share, in percent."""
        right = [self.seen[name].most_common(1)[0][0] == value for name, value in self.wanted.items()]
        return 100 * sum(right) / len(right)

    @property
    def note(self) -> str:
        """What was wanted and what was seen instead."""
        most = {name: counter.most_common(1)[0][0] for name, counter in self.seen.items()}
        return ", ".join(
            f"{name} {most[name]}" + ("" if most[name] == value else f" (not {value})")
            for name, value in self.wanted.items()
        )


class Asked(_Attributes):
    """World only: share of the attributes in which prompt and source prompt differ that the judge sees in the edit.

    The attributes are shape, colour and texture of the main object, background and style; most frames decide. The
    judge is a network of its own, trained on renders of the world only.
    """

    label = "edit success"
    empty = "the prompts ask for no change of an attribute"

    def chosen(self, before: dict[str, str], after: dict[str, str]) -> list[str]:
        """Return the attributes in which the right answer differs from the source."""
        return [name for name in ATTRIBUTES if before[name] != after[name]]


class Kept(_Attributes):
    """World only: share of the attributes in which prompt and source prompt agree that the judge sees in the edit.

    As `asked`, for what was to stay.
    """

    label = "rest kept"
    empty = "the prompts keep no attribute"

    def chosen(self, before: dict[str, str], after: dict[str, str]) -> list[str]:
        """Return the attributes in which the right answer agrees with the source."""
        return [name for name in ATTRIBUTES if before[name] == after[name]]


def _understood(prompt: str | None) -> dict[str, str]:
    found = understood(prompt or "")
    if found is None:
        raise UnavailableError(NO_CAPTION.format(prompt))
    return found
