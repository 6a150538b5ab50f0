"""What the format of a decoded frame says of its colours."""

import av.video.frame

PQ, HLG = 16, 18
"""FFmpeg's numbers (those of ITU-T H.273) for the transfer functions SMPTE ST 2084 and ARIB STD-B67."""


def is_hdr(frame: av.video.frame.VideoFrame) -> bool:
    """Return whether a frame's transfer function is PQ or HLG."""
    return frame.color_trc in (PQ, HLG)


def has_alpha(frame: av.video.frame.VideoFrame) -> bool:
    """Return whether a frame's pixel format may hold transparency."""
    name = frame.format.name
    return name == "pal8" or any(
        part in name for part in ("rgba", "bgra", "argb", "abgr", "yuva", "gbrap", "ya8", "ya16")
    )
