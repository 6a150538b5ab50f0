"""Data sets made on the spot: clips that are folders of PNGs, so that every pixel is known."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from evenreel.errors import DataError
from evenreel.training.data.manifest import Manifest
from evenreel.training.data.settings import DataSettings
from evenreel.training.data.sources import Source, open_source
from evenreel.workflows.training.data_build import build

SIZE = 32
SMALL = DataSettings(size=(SIZE, SIZE), per_clip=3, clips_per_shard=2)


def pictures(count: int, seed: int = 0, width: int = SIZE, height: int = SIZE) -> np.ndarray:
    """Frames of noise: nothing that is smoothed, swapped or inverted would pass for them."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def image_clip(folder: Path, frames: np.ndarray) -> Path:
    """A clip as a folder of PNGs."""
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{index:03}.png")
    return folder


def clips_folder(folder: Path, count: int = 4, frames: int = 9) -> dict[str, np.ndarray]:
    """`count` clips with a caption each, in captions.json; returns their frames by name."""
    made = {f"clip{i}": pictures(frames, seed=i) for i in range(count)}
    for name, clip in made.items():
        image_clip(folder / name, clip)
    captions = {name: [f"a man is walking in the park {name}", "noise"] for name in made}
    (folder / "captions.json").write_text(json.dumps(captions))
    return made


def built(source: Path | Source, out: Path, settings: DataSettings = SMALL, **details) -> Manifest:
    """Build a data set in this process."""
    return build(open_source(source) if isinstance(source, Path) else source, out, settings, **details)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a data set that counts."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != ".lock"}


def members(path: Path) -> dict[str, bytes]:
    """What a shard holds, by Python's own tar reader."""
    with tarfile.open(path) as tar:
        found = {}
        for entry in tar:
            file = tar.extractfile(entry)
            found[entry.name] = file.read() if file else b""
        return found


def killed(task: int, tick: object) -> None:
    """A task whose process dies of a kill."""
    del task, tick
    os.kill(os.getpid(), 9)


def fail(task: int, tick: object) -> None:
    """A task that raises."""
    del tick
    raise DataError(f"task {task} is no good.")
