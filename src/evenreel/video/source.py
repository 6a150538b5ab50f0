"""Opening files without being led elsewhere: regular local files, in formats that hold their own frames."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.container
import av.error
import av.packet
import av.stream

from evenreel.errors import ClipError
from evenreel.files import shown
from evenreel.video.info import ReadSettings
from evenreel.video.structure import lacks_index

DEMUXERS = (
    "mov",
    "matroska",
    "avi",
    "gif",
    "mpegts",
    "mpeg",
    "flv",
    "asf",
    "ogg",
    "ivf",
    "yuv4mpegpipe",
    "nut",
    "mxf",
)
"""Formats that carry their frames inside; playlists (hls, dash, concat, sdp) point at other files."""

IMAGE_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
PLAYLIST_SIGNATURES = (
    b"#extm3u",
    b"ffconcat",
    b"[playlist]",
    b"[reference]",
    b"<mpd",
    b"<asx",
    b"<smil",
    b"v=0",
)
OTHER_STARTS = {
    b"<!doctype html": "not a clip but a web page; download the clip itself",
    b"<html": "not a clip but a web page; download the clip itself",
    b"version https://git-lfs": "not a clip but a Git LFS pointer; fetch the clip with `git lfs pull`",
}
"""What is saved in the place of a clip, by its first letters, and what to do."""
ADDRESSES = ("concat:", "pipe:", "data:", "subfile:", "crypto:", "async:", "cache:", "lavfi:", "fd:")


def local_path(path: str | os.PathLike[str]) -> Path:
    """Check that a path names a regular, readable file or folder on this machine.

    Raises ClipError otherwise.
    """
    name = os.fspath(path)
    if not name or "\0" in name:
        raise ClipError(
            f"{name!r} is not a file name; give the path of a video, an image or a folder of images."
        )
    result = Path(name)
    try:
        mode = result.stat().st_mode
    except (OSError, ValueError) as error:
        if "://" in name or name.lower().startswith(ADDRESSES):
            raise ClipError(
                f"{shown(name)} is an address, and only local files are read; "
                "download the video and give its path."
            ) from error
        reason = getattr(error, "strerror", None) or error
        raise ClipError(f"{shown(name)} cannot be read ({reason}); check the path.") from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ClipError(
            f"{shown(name)} is a device or pipe; give a regular video file or a folder of images."
        )
    if not os.access(result, os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)):
        raise ClipError(
            f"{shown(name)} cannot be read (permission denied); change its permissions or give a copy."
        )
    return result


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file, to tell images and playlists from videos; ClipError when there are none."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise ClipError(
            f"{shown(path)} cannot be read ({error.strerror}); check the disk and permissions."
        ) from error
    if not head:
        raise ClipError(f"{shown(path)} is empty; download or export it again.")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(PLAYLIST_SIGNATURES) or (text.startswith(b"<?xml") and b"<mpd" in text):
        raise ClipError(
            f"{shown(path)} is a playlist, which points at other files; give the video file itself."
        )
    for mark, said in OTHER_STARTS.items():
        if text.startswith(mark):
            raise ClipError(f"{shown(path)} is {said}.")
    return head


def is_image(head: bytes) -> bool:
    """Return whether a file that starts like this is a PNG, JPEG, BMP or WebP picture."""
    return head.startswith(IMAGE_SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


@contextmanager
def opened(path: Path, settings: ReadSettings) -> Iterator[av.container.InputContainer]:
    """Open a video file for demuxing; FFmpeg's errors become ClipErrors, also inside the `with` block."""
    try:
        container = av.open(
            # the prefix keeps FFmpeg from reading "concat:..." or "-" in a file's own name as an address
            f"file:{path}",
            metadata_errors="replace",
            # bounds what FFmpeg allocates while it looks at the streams, too
            options={"max_pixels": str(settings.max_pixels)},
            container_options={
                "format_whitelist": ",".join(DEMUXERS),
                "protocol_whitelist": "file",
                "max_streams": "100",
            },
        )
    except (av.error.FFmpegError, ValueError, OverflowError, MemoryError) as error:
        if lacks_index(path):
            raise ClipError(
                f"{shown(path)} was cut off before its index (moov) was written, without which no frame can be found; "
                "copy or download it again, or have a recovery tool rebuild the index from another clip of that camera."
            ) from error
        raise ClipError(
            f"{shown(path)} is not a video that can be read ({reason_of(error)}); "
            "give an mp4, mov, mkv, webm, avi or gif file, or a folder of images."
        ) from error
    try:
        yield container
    except (av.error.FFmpegError, OverflowError, MemoryError) as error:
        raise ClipError(
            f"{shown(path)} is damaged ({reason_of(error)}); download or export it again."
        ) from error
    finally:
        container.close()


def demuxed(container: av.container.InputContainer, *streams: av.stream.Stream) -> Iterator[av.packet.Packet]:
    """Yield the packets of some streams, without the empty ones with which PyAV asks for decoders to be flushed."""
    try:
        for packet in container.demux(streams):
            if packet.size or packet.pts is not None or packet.dts is not None:
                yield packet
    except IndexError:
        # a stream that appeared mid-file, as in broadcasts, trips PyAV's flush after the last packet
        return


def reason_of(error: BaseException) -> str:
    """Return FFmpeg's words for an error, without its number and file name."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
