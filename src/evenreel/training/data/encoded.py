"""What frozen encoders say of samples, computed once and kept for the next time the same ones come."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from evenreel.backbones.base import Backbone
from evenreel.errors import SettingsError
from evenreel.training.data.shards import Batch


class Encoded:
    """Frozen encoders with a memory: what was computed of a sample is kept, up to so many bytes.

    Kept on the CPU in float32, the oldest goes first.
    """

    def __init__(
        self,
        backbone: Backbone,
        vision: Callable[[Tensor], Tensor] | None,
        *,
        limit: int = 2**30,
    ) -> None:
        self.backbone, self.vision, self.limit = backbone, vision, limit
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._size = 0

    def latents(self, batch: Batch) -> Tensor:
        """Return latents of all frames, (videos frames) outermost."""
        return self._rows("latents", batch, lambda frames: self.backbone.encode(frames))

    def hidden(self, batch: Batch) -> Tensor | None:
        """Return vision tokens of all frames, before projection."""
        vision = self.vision
        return None if vision is None else self._rows("vision", batch, vision)

    def text(self, captions: Sequence[str]) -> Tensor:
        """Return prompt embeddings; of captions that are too long, the first words that fit."""
        rows = [self._of(f"text {text}", lambda text=text: self._embedded(text)) for text in captions]
        return torch.cat(rows).to(self.backbone.device)

    def fits(self, text: str) -> bool:
        """Return whether a caption is read whole, in as many tokens as the empty one."""
        try:
            return self.backbone.tokens(text).length <= self.backbone.tokens("").length
        except NotImplementedError:
            return self.backbone.embed([text]).shape[1] <= self.backbone.embed([""]).shape[1]
        except SettingsError:
            return False

    def fitting(self, text: str) -> str:
        """Return as much of a caption as is read: its first words, or of a single one its first letters."""
        if self.fits(text):
            return text
        words = text.split()
        count = _most(lambda count: self.fits(" ".join(words[:count])), len(words))
        if count:
            return " ".join(words[:count])
        return text[: _most(lambda count: self.fits(text[:count]), len(text))]

    def _embedded(self, text: str) -> Tensor:
        return self.backbone.embed([self.fitting(text)])

    def _rows(self, what: str, batch: Batch, compute: Callable[[Tensor], Tensor]) -> Tensor:
        device = self.backbone.device
        rows = [
            self._of(f"{what} {key}", lambda frames=frames: compute(frames.to(device))).to(device)
            for key, frames in zip(batch.keys, batch.frames, strict=True)
        ]
        return torch.cat(rows)

    @torch.no_grad()
    def _of(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        value = compute().float().cpu().clone()  # a copy leaves inference mode behind
        self._kept[name] = value
        self._size += value.nbytes
        while self._size > self.limit and len(self._kept) > 1:
            self._size -= self._kept.popitem(last=False)[1].nbytes
        return value


def _most(fits: Callable[[int], bool], below: int) -> int:
    """The largest number that fits, where all smaller ones do; `below` does not, and 0 does."""
    low, high = 0, below
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
