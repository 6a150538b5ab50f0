"""Damage that FFmpeg conceals: it goes on decoding and says so in flags and in its log only, and this reads both."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import av.logging
import av.packet

SELF_CHECKING = ("h264",)
"""Decoders that flag the frames they concealed something in; most of what they log as errors hurts no picture."""
HARMLESS = re.compile(
    r"co located POCs|mmco|number of reference frames|SEI|APP fields|sample aspect|non-standard|VUI|Truncated VUI",
    re.IGNORECASE,
)
HARMFUL = re.compile(
    r"missing reference|reference picture missing|frame num gap|undecodable NALU|error parsing NAL|"
    r"invalid NAL unit size|could not find ref|slice CRC|LZW decode failed",
    re.IGNORECASE,
)
"""What costs pictures whatever the decoder, and at whatever level it is logged."""

NOTICING = ("h264", "mpeg2video", "mpeg1video", "mpeg4", "vc1")
"""Codecs whose decoders notice nearly all that is missing from a picture."""
JOINED_WITHIN = 1
"""Packets after a marked one before the next recording begins."""

_lock = Lock()
_listeners = 0
_before: tuple[int | None, bool] = (None, True)


@contextmanager
def heard() -> Iterator[list[tuple[int, str, str]]]:
    """Collect what FFmpeg logs in this thread, from warnings up, as (level, who, what).

    The level is one for the whole process; what other threads log meanwhile goes where it went before: nowhere.
    """
    elsewhere, here = av.logging.Capture(local=False), av.logging.Capture(local=True)
    _listen()
    try:
        with elsewhere, here as messages:
            yield messages
    finally:
        _unlisten()


def _listen() -> None:
    global _listeners, _before
    with _lock:
        if not _listeners:
            _before = av.logging.get_level(), av.logging.get_skip_repeated()
            av.logging.set_skip_repeated(False)
            av.logging.set_level(av.logging.WARNING)
        _listeners += 1


def _unlisten() -> None:
    global _listeners
    with _lock:
        _listeners -= 1
        if not _listeners:
            level, skips = _before
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skips)


def told(messages: list[tuple[int, str, str]], *who: str) -> str | None:
    """Return the first message of some decoders and formats that means lost pictures, or None."""
    for level, name, message in messages:
        if name not in who or HARMLESS.search(message):
            continue
        if HARMFUL.search(message) or (level <= av.logging.ERROR and name not in SELF_CHECKING):
            return " ".join(message.split())[:100]
    return None


class Holes:
    """Where a transport stream lost packets, and not just ends and begins: FFmpeg marks both alike.

    Recordings that were joined go on with a whole picture, or with a clock that starts again. A decoder that would not
    notice what a whole picture lacks is only trusted with the clock.
    """

    def __init__(self, codec: str) -> None:
        self._notices = codec in NOTICING
        self._marked: int | None = None
        self._since = 0
        self._restarts = 1

    def seen(self, packet: av.packet.Packet, *, restarts: int) -> int | None:
        """Take the next packet of the pictures; the timestamp of one that is known to have lost something by now."""
        lost = None
        if (packet.is_keyframe and self._notices) or restarts != self._restarts:
            self._marked = None
        elif self._marked is not None and self._since >= JOINED_WITHIN:
            lost, self._marked = self._marked, None
        self._restarts = restarts
        self._since += 1
        if packet.is_corrupt and self._marked is None:
            self._marked, self._since = packet.pts, 0
        return lost


def listed(frames: list[int]) -> str:
    """List frame numbers for people: 3, 7 to 9."""
    runs: list[list[int]] = []
    for frame in sorted(set(frames)):
        if runs and frame == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], frame]
        else:
            runs.append([frame, frame])
    shown = [str(a) if a == b else f"{a} to {b}" for a, b in runs[:6]]
    return ", ".join(shown) + (" and others" if len(runs) > 6 else "")
