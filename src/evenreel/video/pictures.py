"""Image files opened safely with Pillow: only formats that are wanted, no limits of its own, errors as sentences."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image

from evenreel.errors import ClipError
from evenreel.files import shown
from evenreel.video.source import reason_of

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CODE_POINTS = "cicp"
"""Where `code_points` is kept in Pillow's `Image.info`, beside its own `gamma`, `chromaticity` and `srgb`."""
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")


@contextmanager
def opened_picture(file: Path) -> Iterator[Image.Image]:
    """Open an image; its errors, also inside the `with` block, become ClipErrors."""
    try:
        with warnings.catch_warnings():
            # our own limit is tighter, and is an error
            warnings.simplefilter("ignore")
            with Image.open(_without_text(file), formats=FORMATS) as image:
                if image.format == "PNG" and (points := code_points(file)):
                    image.info[CODE_POINTS] = points
                yield image
    except ClipError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ClipError(
            f"{shown(file)} is not an image that can be read ({_reason(error)}); "
            "give a whole PNG, JPEG, WebP or BMP file."
        ) from error


def code_points(file: Path) -> tuple[int, ...] | None:
    """Read the cICP chunk, which Pillow passes over: primaries, transfer, matrix (numbers of H.273), full range.

    None where a file has none before its pixels, or is not a PNG.
    """
    with file.open("rb") as opened:
        if opened.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
            return None
        while len(start := opened.read(8)) == 8 and start[4:] != b"IDAT":
            length = int.from_bytes(start[:4], "big")
            if start[4:] == b"cICP" and length == 4:
                found = opened.read(4)
                return tuple(found) if len(found) == 4 else None
            opened.seek(length + 4, 1)  # the checksum follows
    return None


def _without_text(file: Path) -> Path | BytesIO:
    """A PNG without its texts, which no picture needs and which may be of any size; other files as they are."""
    with file.open("rb") as opened:
        head = opened.read(len(PNG_SIGNATURE))
        if head != PNG_SIGNATURE:
            return file
        kept, dropped = [head], False
        while len(start := opened.read(8)) == 8:
            length = int.from_bytes(start[:4], "big") + 4  # the checksum follows
            if start[4:] in TEXT_CHUNKS:
                opened.seek(length, 1)
                dropped = True
                continue
            kept += [start, opened.read(length)]
        kept.append(start)
    return BytesIO(b"".join(kept)) if dropped else file


def _reason(error: Exception) -> str:
    """Pillow's messages may repeat the file's name, which need not be printable."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "its contents are not recognised"
    if isinstance(error, Image.DecompressionBombError):
        return "it would be too large"
    return ascii(reason_of(error))[1:-1]
