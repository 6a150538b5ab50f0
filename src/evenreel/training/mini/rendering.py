"""What workers do: scenes into pictures and their captions' tokens.

They import nothing but the world, so that sixteen of them are at work after seconds.
"""

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evenreel.training.mini.control_maps import ControlSlots
from evenreel.training.mini.pictures import CLIP_FRAMES, SIZE, as_bytes, frame_of
from evenreel.training.mini.scene_data import SceneData
from evenreel.world import Scene, caption, random_change, random_scene, render

TOKENS = 77


def frames_of(seed: int, data: SceneData) -> list[int]:
    """Return which frames of its scene are shown."""
    if data.shown == 1:
        return [frame_of(seed)]
    rng = random.Random(f"evenreel clip {seed}")
    stride = rng.choice(data.strides)
    first = rng.randint(0, max(0, CLIP_FRAMES + 8 - data.shown * stride))
    return [first + stride * number for number in range(data.shown)]


def edit_of(seed: int) -> tuple[Scene, Scene, tuple[str, str]]:
    """Return a scene, the same with one to three attributes changed, and captions; two in three the plainest."""
    scene, rng = random_scene(seed), random.Random(f"evenreel edit {seed}")
    changed = random_change(scene, rng)
    return scene, changed, (caption(scene), caption(changed, rng if rng.random() < 1 / 3 else None))


def captions_of(seed: int, count: int) -> list[str]:
    """Return captions that a scene is trained with: the plainest, then paraphrases."""
    scene, rng = random_scene(seed), random.Random(f"evenreel training captions {seed}")
    return [caption(scene), *(caption(scene, rng) for _ in range(count - 1))]


class WordTokens:
    """Token ids of captions by a table of the world's words: what CLIP's tokenizer gives, a hundred times faster."""

    def __init__(self, words: Mapping[str, int], begin: int, end: int) -> None:
        self.words, self.begin, self.end = dict(words), begin, end

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Ids (texts 77), padded with the end mark. Raises: KeyError for a word that is not the world's."""
        ids = np.full((len(texts), TOKENS), self.end, dtype=np.int16)
        for row, text in zip(ids, texts, strict=True):
            known = [self.words[word] for word in re.findall(r"[a-z]+|[^a-z\s]", text)]
            row[: len(known) + 1] = [self.begin, *known]
        return ids


class Chunk:
    """Renders a chunk of scenes into a slot of two memory maps; only the chunk's number travels back."""

    def __init__(self, folder: Path, data: SceneData, slots: int, tokens_of: WordTokens) -> None:
        self.pictures, self.tokens = folder / "pictures.npy", folder / "tokens.npy"
        self.data, self.slots, self.tokens_of = data, slots, tokens_of
        self.controls = ControlSlots(folder, slots, data.chunk, data.frames) if data.controls else None

    def make(self) -> None:
        """Make the maps."""
        shape = (self.slots, self.data.chunk, self.data.frames, 3, SIZE, SIZE)
        np.lib.format.open_memmap(self.pictures, mode="w+", dtype=np.uint8, shape=shape).flush()
        shape = (self.slots, self.data.chunk, self.data.captions, TOKENS)
        np.lib.format.open_memmap(self.tokens, mode="w+", dtype=np.int16, shape=shape).flush()
        if self.controls is not None:
            self.controls.make()

    def __call__(self, number: int) -> int:
        data, slot = self.data, number % self.slots
        pictures, tokens = np.load(self.pictures, mmap_mode="r+"), np.load(self.tokens, mmap_mode="r+")
        for index in range(data.chunk):
            seed = data.first + number * data.chunk + index
            scenes, texts = [random_scene(seed)], captions_of(seed, data.captions)
            if data.edited:
                *scenes, texts = edit_of(seed)
            frames = frames_of(seed, data)
            for part, scene in enumerate(scenes):
                shown = render(scene, frames, SIZE, maps=False)
                pictures[slot, index, part * data.shown : (part + 1) * data.shown] = as_bytes(shown.frames)
                if self.controls is not None:
                    self.controls.write(slot, index, scene, frames, shown.depth)
            tokens[slot, index] = self.tokens_of(texts)
        return number
