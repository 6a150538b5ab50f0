"""How many steps a run of the loop has: as many as it is told, or as fit into its minutes."""

from collections.abc import Mapping
from typing import Any

from evenreel.training.loop_settings import LoopSettings

EARLY = 0.05
"""Share of a training's minutes after which its speed tells how many steps there will be."""


class Length:
    """The number of steps of a run; with minutes it is known once the learning rate must begin to fall."""

    def __init__(self, settings: LoopSettings, unit: int) -> None:
        """`unit`: steps that belong together."""
        self._settings, self._unit = settings, unit
        self.steps = settings.steps
        """None as long as it is not known."""
        self._timed = False
        """Whether the length of a run whose rate falls from the first step was told from its speed."""
        self._first: tuple[int, float] | None = None
        """The first step that was heard of, and when: it takes longer than others, as much is made there."""

    def follow(self, step: int, seconds: float) -> None:
        """Hear how many steps took how long, the same on all processes.

        The length is fixed as soon as the learning rate must begin to fall, and a run whose time is over ends.
        """
        settings = self._settings
        if settings.minutes is None:
            return
        limit = 60 * settings.minutes
        first, before = self._first = self._first or (step, seconds)
        if seconds >= limit:
            steps = step
        elif self._is_time_to_fall(step, seconds / limit, measured=step > first):
            self._timed = True
            pace = (seconds - before) / (step - first) if step > first else seconds / step
            steps = step + round((limit - seconds) / pace)
        else:
            return
        steps = max(step, -(-steps // self._unit) * self._unit)
        if self.steps is None or steps < self.steps:
            self.steps = steps

    def _is_time_to_fall(self, step: int, share: float, *, measured: bool) -> bool:
        """Tell whether the learning rate must begin to fall after a share of the time, or, where it does so from the
        first step, whether it is known how many there will be."""
        if self._settings.decay == 1:
            return share >= EARLY and measured and not self._timed
        rising = self.steps is None or step < self._settings.falls_from(self.steps)
        return rising and share >= 1 - self._settings.decay

    def take_up(self, record: Mapping[str, Any]) -> bool:
        """Take over the length of a run that was stopped, where it still holds, from the record of its state.

        Returns whether the run is made longer than it was.
        """
        told, before, steps = self._settings.steps, record["settings"], record["length"]
        # a length that minutes set, and not steps, is another one where other minutes are told
        by_time = steps is not None and (before["steps"] is None or steps < before["steps"])
        same = (told, self._settings.minutes) == (before["steps"], before["minutes"])
        self._timed = by_time and same
        longer = steps is not None and not self._timed and (told is None or told > steps)
        if self._timed or (not longer and told is None):
            self.steps = steps
        return longer
