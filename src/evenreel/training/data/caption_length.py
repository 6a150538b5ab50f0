"""Captions that text encoders cannot read whole: what does not fit is cut off when they are trained on."""

from collections.abc import Iterable
from dataclasses import dataclass

from evenreel.backbones.tokenizer import clip_tokenizer

MOST_TOKENS = 75
"""Tokens that CLIP's text encoder reads beside its two marks, and with it every Stable Diffusion of 1.x or 2.x."""


@dataclass(frozen=True)
class Cut:
    """A caption that is too long."""

    clip: str
    caption: str
    tokens: int

    def described(self) -> str:
        """Say for people what was too long."""
        return f"{self.clip}: '{self.caption[:40]}...' has {self.tokens} tokens"


def tokens_in(text: str) -> int:
    """Return how many tokens CLIP's tokenizer makes of a text, without its marks."""
    return len(clip_tokenizer()(text, verbose=False).input_ids) - 2


def too_long(captions: Iterable[tuple[str, str]]) -> list[Cut]:
    """Return those of (clip, caption) that have more tokens than are read."""
    found: list[Cut] = []
    for clip, caption in captions:
        # a token holds at least a byte, and only what has more bytes need be looked at
        if (
            len(caption.encode("utf-8", "replace")) > MOST_TOKENS
            and (tokens := tokens_in(caption)) > MOST_TOKENS
        ):
            found.append(Cut(clip, caption, tokens))
    return found


def sentence(found: list[Cut]) -> str:
    """Return what to say of them; there is at least one."""
    clips = len({one.clip for one in found})
    return (
        f"{len(found)} captions of {clips} clips are too long for text encoders, which read {MOST_TOKENS} tokens: what "
        f"is behind is cut off in training; the first is {found[0].described()}"
    )
