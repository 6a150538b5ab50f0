"""Checking a data set: hashes, counts, every picture decoded, and what a person would want to know before training."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evenreel import process_pool
from evenreel.errors import DataError
from evenreel.files import shown
from evenreel.progress import Progress, silent
from evenreel.training.data.caption_length import Cut, too_long
from evenreel.training.data.manifest import Manifest, Shard, read_manifest
from evenreel.training.data.settings import DataSettings
from evenreel.training.data.shard_file import indexed
from evenreel.training.data.shards import SampleReader
from evenreel.types import Frames
from evenreel.video.hashing import hash_of

BLANK = 2 / 255
"""Standard deviation of the levels of a frame below which it shows nothing."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One shard to check."""

    folder: Path
    shard: Shard
    settings: DataSettings


@dataclass(kw_only=True)
class Findings:
    """What was found in a shard, or in all of them."""

    problems: list[str] = field(default_factory=list)
    """One sentence each: what is damaged."""
    samples: int = 0
    """Samples that are whole."""
    frames: int = 0
    captions: int = 0
    """Captions and other wordings of all clips, each clip counted once."""
    blank: int = 0
    """Frames of one colour all over, black among them."""
    still: int = 0
    """Groups whose frames are all the same."""
    cut: list[Cut] = field(default_factory=list)
    """Captions that trainings cut, as text encoders read no more."""
    repeated: int = 0
    """Groups that show what another one shows."""
    shows: list[bytes] = field(default_factory=list)
    """A hash of each group's frames."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a check found."""

    manifest: Manifest
    found: Findings

    @property
    def remarks(self) -> int:
        """Things that damage nothing, and may still be unwanted."""
        return self.found.blank + self.found.still + self.found.repeated + len(self.found.cut)


def check(folder: Path, *, workers: int = 1, progress: Progress = silent) -> Report:
    """Read all of a data set. Raises DataError where it has no manifest that can be read; all else is in the report."""
    manifest = read_manifest(folder)
    tasks = [Task(folder=folder, shard=shard, settings=manifest.settings) for shard in manifest.shards]
    found = Findings(problems=_of_the_whole(folder, manifest))
    progress("check", 0, manifest.samples)
    for part in process_pool.work(
        check_shard, tasks, workers, lambda done: progress("check", done, manifest.samples)
    ):
        found.problems += part.problems
        found.shows += part.shows
        found.cut += part.cut
        for name in ("samples", "frames", "captions", "blank", "still"):
            setattr(found, name, getattr(found, name) + getattr(part, name))
    found.problems.sort()
    found.repeated = sum(count - 1 for count in Counter(found.shows).values())
    return Report(manifest=manifest, found=found)


def _of_the_whole(folder: Path, manifest: Manifest) -> list[str]:
    problems = []
    if not manifest.complete:
        problems.append(
            f"{shown(folder)} is unfinished: {len(manifest.shards)} of {manifest.shard_count} shards are there."
        )
    names = [shard.file for shard in manifest.shards]
    if len(set(names)) < len(names):
        problems.append(f"{shown(folder)}: the manifest lists a shard twice.")
    if manifest.complete and (strangers := {file.name for file in folder.glob("*.tar")} - set(names)):
        problems.append(f"{shown(folder)} holds {shown(min(strangers))!r}, which the manifest does not know.")
    return problems


def check_shard(task: Task, tick: process_pool.Tick) -> Findings:
    """Read all of one shard, and say what is wrong with it."""
    path, found = task.folder / task.shard.file, Findings()
    try:
        if not path.is_file():
            raise DataError(f"{shown(path)} is not there; run the build again to have it made.")
        if path.stat().st_size != task.shard.bytes or hash_of([path]) != task.shard.sha256:
            found.problems.append(
                f"{shown(path)} is not what was built (its hash differs); delete it and run the build again."
            )
        index = indexed(path, task.settings.members)
        if len(index.keys) != task.shard.samples:
            found.problems.append(f"{shown(path)} holds {len(index.keys)} of {task.shard.samples} samples.")
            tick(max(0, task.shard.samples - len(index.keys)))  # so that progress comes to its end
    except (DataError, OSError) as error:
        found.problems.append(str(error))
        tick(task.shard.samples)
        return found
    clips: dict[str, int] = {}
    for row in range(len(index.keys)):
        try:
            _check_sample(SampleReader(index, row, task.settings), task.settings, found, clips)
        except DataError as error:
            found.problems.append(str(error))
        tick(1)
    found.captions = sum(clips.values())
    return found


def _check_sample(
    reader: SampleReader, settings: DataSettings, found: Findings, clips: dict[str, int]
) -> None:
    facts = reader.facts()
    for name in settings.maps:
        reader.maps(name)
    frames = reader.frames()
    encoded = [reader.members[member] for member in settings.frame_members]
    found.samples += 1
    found.frames += len(frames)
    found.blank += blank_frames(frames)
    found.still += all(data == encoded[0] for data in encoded[1:])
    found.shows.append(_digest(encoded))
    texts = [*facts["captions"], *facts["variations"]]
    if facts["clip"] not in clips:
        found.cut += too_long((facts["clip"], text) for text in texts)
    clips[facts["clip"]] = len(texts)


def blank_frames(frames: Frames) -> int:
    """Return how many frames are of one colour all over."""
    return int((frames.flatten(2).std(dim=2).amax(dim=1) < BLANK).sum())


def _digest(pictures: Sequence[bytes]) -> bytes:
    total = hashlib.sha256()
    for data in pictures:
        total.update(hashlib.sha256(data).digest())
    return total.digest()[:16]
