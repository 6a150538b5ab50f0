"""Which codecs this build of FFmpeg has."""

from av.codec import Codec
from av.codec.codec import UnknownCodecError


def has_encoder(name: str) -> bool:
    """Return whether results can be encoded with a codec."""
    try:
        Codec(name, "w")
    except UnknownCodecError:
        return False
    return True
