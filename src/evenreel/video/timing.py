"""When the frames of a result are shown: the source's exact times on a clock that a container can hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from evenreel.video.info import VideoInfo
from evenreel.video.streams import MAX_RATE

FINEST = 1_000_000
"""Units of time to a second that containers are trusted with."""
FALLBACK = Fraction(1, 90_000)
LARGEST_DENOMINATOR = 65_535
"""Of a rate that encoders are told: MPEG-4's clock has 16 bits."""
PRIMING = Fraction(1, 10)
"""Seconds of sound before the first frame that are the codec's run-up rather than an offset to keep."""


@dataclass(frozen=True)
class Timing:
    """The clock of a result."""

    origin: Fraction
    """Second of the source's clock that becomes 0."""
    time_base: Fraction
    """Seconds to one unit; small enough for every timestamp to be exact, where a container's limits allow that."""
    rate: Fraction
    """Frames a second: the source's own where its frames keep to it, else on average over the first window."""
    first: Fraction = Fraction(0)
    """Second of the source's clock at which the first frame is shown."""
    tolerance: Fraction = Fraction(0)
    """Seconds that the source's clock is off an exact rate by rounding; 0 where times stay as they are."""

    @classmethod
    def of(
        cls, times: Sequence[Fraction], rate: Fraction | None, source: VideoInfo | None, *, from_start: bool
    ) -> "Timing":
        """Return the clock for frames that start like `times`; with `from_start`, sound ahead of the first frame is
        kept.
        """
        origin = times[0]
        # where pictures were cut away at the start, the sound to them goes with them
        if from_start and source is not None and source.audio_start is not None and not source.skipped:
            ahead = origin - source.audio_start
            origin = source.audio_start if ahead > PRIMING else origin
        exact, tolerance = _exact_rate(times, source) if rate is None else (None, Fraction(0))
        rate = exact or rate
        units = lcm(*((time - origin).denominator for time in times))
        if exact is not None:
            units = lcm((times[0] - origin).denominator, (1 / exact).denominator)
        if source is not None and source.time_base is not None:
            finer = lcm(units, source.time_base.denominator)
            units = finer if finer <= FINEST else units
        if rate is None and len(times) > 1:
            rate = (len(times) - 1) / (times[-1] - times[0])
        if rate is None:
            rate = source.average_rate if source is not None and source.average_rate else Fraction(25)
        # encoders take no rate that only a damaged clock has
        rate = min(max(rate, Fraction(1, LARGEST_DENOMINATOR)), Fraction(MAX_RATE))
        units = lcm(units, (1 / rate).denominator) if len(times) == 1 else units
        time_base = Fraction(1, units) if units <= FINEST else FALLBACK
        return cls(origin, time_base, rate.limit_denominator(LARGEST_DENOMINATOR), times[0], tolerance)

    def units(self, time: Fraction, time_base: Fraction) -> int:
        """Return a time in units of the result, on the grid of the exact rate where it lies near it."""
        near = self.first + round((time - self.first) * self.rate) / self.rate
        # twice: an end is the sum of two rounded numbers
        exact = near if abs(near - time) <= 2 * self.tolerance else time
        return round((exact - self.origin) / time_base)


def _exact_rate(times: Sequence[Fraction], source: VideoInfo | None) -> tuple[Fraction | None, Fraction]:
    """The declared rate and how far rounding moves times off it; (None, 0) where frames do not keep to it."""
    if source is None or source.average_rate is None or source.time_base is None:
        return None, Fraction(0)
    rate, tolerance = _standard(source.average_rate), min(source.time_base, Fraction(1, 1000))
    keeps = all(abs(times[0] + k / rate - time) <= tolerance for k, time in enumerate(times))
    return (rate, tolerance) if keeps and 8 * tolerance * rate <= 1 else (None, Fraction(0))


def _standard(rate: Fraction) -> Fraction:
    """The whole or NTSC rate that a declared one is a rounding of, else itself."""
    whole = max(1, round(rate))
    nearest = min(Fraction(whole), Fraction(whole * 1000, 1001), key=lambda standard: abs(standard - rate))
    return nearest if abs(nearest - rate) <= rate / 2000 else rate
