"""Latents and captions of rendered scenes on the training's device, made by all cores while training already runs.

Workers render chunks of scenes and write their captions' tokens; this process encodes the pictures, so that only
latents and tokens are kept. On a CPU everything is made before the first step, so that a training is the same each
time; on a GPU it begins with the first scenes and takes the rest as they come.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor
from transformers import CLIPTokenizer

from evenreel import process_pool
from evenreel.files import scratch
from evenreel.training.mini import tokenizer
from evenreel.training.mini.control_maps import SceneControls
from evenreel.training.mini.pictures import SIZE, in_order
from evenreel.training.mini.rendering import TOKENS, Chunk, WordTokens
from evenreel.training.mini.scene_data import SceneData
from evenreel.training.states import write_tensors
from evenreel.world.captions import vocabulary

Encode = Callable[[Float[Tensor, "pictures 3 height width"]], Float[Tensor, "pictures 4 rows columns"]]
"""Pictures in [0, 1] to scaled latents."""


@cache
def _tokenizer() -> CLIPTokenizer:
    return tokenizer.build()


def tokens_of(texts: Sequence[str]) -> Int[Tensor, "texts 77"]:
    """Return the token ids of texts, padded to one length."""
    ids = _tokenizer()(list(texts), padding="max_length", max_length=TOKENS, truncation=True).input_ids
    return torch.tensor(ids, dtype=torch.int16)


def word_tokens() -> WordTokens:
    """Return the tokenizer's ids of all words of the world."""
    own = _tokenizer()
    words = {word: own(word).input_ids[1] for word in [*vocabulary(), ","] if word.strip()}
    return WordTokens(words, own.bos_token_id, own.eos_token_id)


class SceneLatents:
    """Latents (scenes frames 4 rows columns) and tokens (scenes captions 77) on a device, of `ready` scenes so far."""

    def __init__(
        self, data: SceneData, encode: Encode, device: torch.device, cached: Path | None = None
    ) -> None:
        """`cached`: a file that keeps them for the next time, where everything is made at once."""
        self.data, self.device, self.ready = data, device, 0
        self._encode, self._cached = encode, cached
        self._together = (
            8 if device.type == "cpu" else 256
        )  # what a CPU's caches hold is encoded twice as fast
        side = SIZE // 8
        self.latents = torch.zeros(data.count, data.frames, 4, side, side, dtype=torch.float16, device=device)
        self.tokens = torch.zeros(data.count, data.captions, TOKENS, dtype=torch.int16, device=device)
        self.controls = SceneControls(data.count, data.frames, device) if data.controls else None
        """What ControlNets are shown, where the data have it."""
        self._coming: Iterator[int | None] | None = None
        self._pool: ProcessPoolExecutor | None = None
        self._scratch: TemporaryDirectory[str] | None = None

    def start(self, processes: int | None = None) -> "SceneLatents":
        """Begin to render, or read the cached file; nothing where that was done."""
        if self._pool is not None or self.is_complete:
            return self
        if self._cached is not None and self._read(self._cached):
            return self
        self._scratch = scratch()
        processes = processes or os.cpu_count() or 1
        self._pool = process_pool.executor(processes)
        ahead = 3 * processes
        self._work = Chunk(Path(self._scratch.name), self.data, ahead + 1, word_tokens())
        self._work.make()
        self._maps = np.load(self._work.pictures, mmap_mode="r"), np.load(self._work.tokens, mmap_mode="r")
        chunks = range(-(-self.data.count // self.data.chunk))
        self._coming = in_order(self._pool, self._work, chunks, ahead=ahead)
        return self

    @property
    def is_complete(self) -> bool:
        """Whether all scenes are there."""
        return self.ready == self.data.count

    def wait(self, count: int, progress: Callable[[int, int], None] = lambda *_: None) -> None:
        """Take scenes in until `count` are there."""
        while self.ready < min(count, self.data.count):
            if not self.take():
                time.sleep(0.002)
            progress(self.ready, count)

    def take(self) -> bool:
        """Encode the next chunk if it is there; False where there is none."""
        number = next(self._coming, None) if self._coming is not None else None
        if number is None:
            return False
        pictures, tokens = (
            torch.from_numpy(np.array(each[number % self._work.slots])) for each in self._maps
        )
        first = number * self.data.chunk
        count = min(len(pictures), self.data.count - first)
        rows = rearrange(pictures[:count], "s f c h w -> (s f) c h w").to(self.device, non_blocking=True)
        latents = torch.cat([self._encode(part.float() / 255) for part in rows.split(self._together)])
        self.latents[first : first + count] = rearrange(latents, "(s f) c h w -> s f c h w", s=count).half()
        self.tokens[first : first + count] = tokens[:count].to(self.device)
        if self.controls is not None:
            assert self._work.controls is not None, "workers keep what is asked for"
            maps = self._work.controls.read(number % self._work.slots)
            self.controls.take(first, rows.unflatten(0, (count, -1)), *maps)
        self.ready = first + count
        if self.is_complete:
            self.close()
            if self._cached is not None:
                made = {"latents": self.latents, "tokens": self.tokens}
                made |= self.controls.tensors if self.controls is not None else {}
                write_tensors(made, self._cached, {"data": str(asdict(self.data))})
        return True

    def close(self) -> None:
        """End the workers; what is there stays."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._coming = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _read(self, path: Path) -> bool:
        if not path.exists():
            return False
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("data") != str(asdict(self.data)):
                return False
            self.latents.copy_(file.get_tensor("latents"))
            self.tokens.copy_(file.get_tensor("tokens"))
            if self.controls is not None:
                for name, tensor in self.controls.tensors.items():
                    tensor.copy_(file.get_tensor(name))
        self.ready = self.data.count
        return True
