"""One time line for files whose clock restarts: joined recordings, broadcasts, cameras that were paused."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av.container
import av.packet

BACK = Fraction(1, 10)
"""Seconds that a stream may step back before its clock counts as restarted (FFmpeg's own limit)."""
AHEAD = Fraction(10)
"""Seconds that a stream may leap ahead, in formats whose clocks restart by design."""
NEAR = Fraction(1)
"""Seconds that sound may be off its own end where it restarts with the pictures."""
RESTARTING = ("mpegts", "mpeg")
MOST_HELD = 2000
"""Packets of sound that wait for the pictures to restart as well; about half a minute."""


@dataclass
class Reached:
    """How far a stream got, on the mended time line."""

    begins: Fraction
    """Second at which its last packet is decoded."""
    ends: Fraction
    """Second at which the packet that lasts longest ends."""


class Clock:
    """Mends the times of the pictures' packets, in the order of the file, so that they go on after a restart.

    Decoding times never go back in a sound file, so a step back is a restart.
    """

    def __init__(self, container: av.container.InputContainer) -> None:
        self._leaps = container.format.name in RESTARTING
        self._reached: Reached | None = None
        self.shifts = [Fraction(0)]
        """Seconds by which the first part of the file, the second, ... are moved."""

    def mend(self, packet: av.packet.Packet) -> None:
        """Move a packet's times onto the one time line."""
        # a presentation time says nothing: pictures are not stored in the order in which they are shown
        if packet.dts is not None and packet.time_base:
            told = packet.dts * packet.time_base
            if self._reached is not None and self.restarted(told + self.shifts[-1], self._reached):
                self.shifts.append(self._reached.ends - told)
            self._reached = reached(self._reached, packet, told + self.shifts[-1])
        move(packet, self.shifts[-1])

    def restarted(self, time: Fraction, before: Reached) -> bool:
        """Return whether a packet at `time` cannot follow what came before."""
        return time < before.begins - BACK or (self._leaps and time > before.ends + AHEAD)


class SoundClock:
    """Mends the times of the sound's packets: they move as the pictures do, so that both keep step.

    The sound may restart before the pictures do, in the order of the file; its packets then wait.
    """

    def __init__(self, pictures: Clock) -> None:
        self._pictures = pictures
        self._part = 0
        self._shift = Fraction(0)
        self._reached: Reached | None = None
        self._held: list[av.packet.Packet] = []

    def push(self, packet: av.packet.Packet) -> Iterator[av.packet.Packet]:
        """Give a packet; take those whose times are known."""
        self._held.append(packet)
        yield from self._ready(len(self._held) > MOST_HELD)

    def flush(self) -> Iterator[av.packet.Packet]:
        """Take the packets that still wait at the end of the file."""
        yield from self._ready(True)

    def _ready(self, now: bool) -> Iterator[av.packet.Packet]:
        while self._held:
            packet = self._held[0]
            time_base = packet.time_base or Fraction(1)
            units = packet.dts if packet.dts is not None else packet.pts
            if units is not None:
                told = units * time_base
                before = self._reached
                if before is not None and self._pictures.restarted(told + self._shift, before):
                    shift = self._shift_from(told, before.ends)
                    if shift is None and not now:
                        return
                    self._shift = before.ends - told if shift is None else shift
                self._reached = reached(before, packet, told + self._shift)
            move(packet, self._shift)
            yield self._held.pop(0)

    def _shift_from(self, told: Fraction, ends: Fraction) -> Fraction | None:
        """By how much the pictures moved where the sound restarts; None where they have not restarted yet."""
        shifts = self._pictures.shifts
        for part in range(self._part + 1, len(shifts)):
            if abs(told + shifts[part] - ends) <= NEAR:
                self._part = part
                return shifts[part]
        return None


def reached(before: Reached | None, packet: av.packet.Packet, begins: Fraction) -> Reached:
    """Return how far a stream got with a packet that is decoded at second `begins`."""
    ends = begins + (packet.duration or 0) * (packet.time_base or 0)
    return Reached(begins, ends if before is None else max(before.ends, ends))


def move(packet: av.packet.Packet, shift: Fraction) -> None:
    """Move the times of a packet by some seconds."""
    if shift and packet.time_base:
        units = round(shift / packet.time_base)
        packet.pts = packet.pts + units if packet.pts is not None else None
        packet.dts = packet.dts + units if packet.dts is not None else None
