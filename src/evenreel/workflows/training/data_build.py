"""Building a data set: clips or scenes into shards, by several processes, to the same bytes whatever interrupts it."""

import logging
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from evenreel import process_pool
from evenreel.backbones import load_backbone
from evenreel.errors import DataError, OutputError, SettingsError, argument
from evenreel.files import Aside, foreign_to, shown, sweep, unwritable
from evenreel.progress import Progress, silent
from evenreel.training.data import caption_length
from evenreel.training.data.groups import Members, Unusable, clip_groups, scene_groups
from evenreel.training.data.looking import fingerprints, opened
from evenreel.training.data.manifest import NAME, SHARD_NAME, Manifest, Shard, read_manifest
from evenreel.training.data.settings import DataSettings, LookingSettings
from evenreel.training.data.shard_file import ShardWriter
from evenreel.training.data.sources import NO_CAPTIONS, ClipEntry, Entry, SceneEntry, Source
from evenreel.training.data.wording import ask, variations
from evenreel.video.hashing import hash_of

logger = logging.getLogger(__name__)
LOCK = ".lock"
MOST_WORKERS = 256
NO_MODELS = LookingSettings()


@dataclass(frozen=True, kw_only=True)
class Task:
    """One shard to make."""

    number: int
    first: int
    """Place of its first clip in the source."""
    entries: tuple[Entry, ...]
    settings: DataSettings
    folder: Path
    strict: bool
    looking: LookingSettings


def sized_for(model: str, settings: DataSettings) -> DataSettings:
    """Return the settings with frames as large as a model works at, named as of an edit. Raises: SettingsError for
    settings that have a size of their own, WeightsError."""
    if settings.size != DataSettings().size:
        raise SettingsError(
            f"{argument('for')} and {argument('size')} both say how large frames are; leave one of them out."
        )
    side = load_backbone(model, device="cpu").native_size
    return replace(settings, size=(side, side))


def build(
    source: Source,
    out: Path,
    settings: DataSettings,
    *,
    looking: LookingSettings = NO_MODELS,
    workers: int = 1,
    strict: bool = False,
    progress: Progress = silent,
) -> Manifest:
    """Make the shards that `out` lacks and return the finished manifest.

    `looking` names models that make maps and captions of clips; every worker loads its own. Interrupted at any moment
    and started again, it goes on; the bytes do not depend on that, nor on `workers`. Clips that cannot be used are
    listed in the manifest, or with `strict` the first of them is a DataError, as is a caption that is too long.
    Raises SettingsError where `out` was begun with other settings, OutputError where it cannot be written or holds
    something else, and DataError where no clip at all can be used.
    """
    if not 1 <= workers <= MOST_WORKERS:
        raise SettingsError(f"workers must be from 1 to {MOST_WORKERS}, got {workers}.")
    looking.check(settings, rendered=source.rendered)
    prints = fingerprints(looking) if looking.named else {}
    if looking.captioner_model is not None:
        source = _to_be_captioned(source)
    with _locked(out):
        manifest = _begun(out, source, settings, prints)
        if strict:
            _refuse(manifest, source)
        _check_captions(source, strict=strict)
        tasks = list(_tasks(source, settings, out, manifest, strict, looking))
        before = sum(shard.clips for shard in manifest.shards)
        total = len(source.entries)
        progress("build", before, total)
        made = process_pool.work(
            make_shard, tasks, workers, lambda done: progress("build", before + done, total)
        )
        try:
            # Closed at once when the loop is left: workers must have ended before what they left is swept away.
            with closing(made):
                for shard in made:
                    shards = sorted((*manifest.shards, shard), key=lambda each: each.file)
                    manifest = replace(manifest, shards=tuple(shards))
                    manifest.write(out)
        finally:
            sweep(out)
    if not manifest.samples:
        name, reason = manifest.skipped[0]
        raise DataError(f"none of the {total} clips can be used; the first is {name}: {reason}.")
    return manifest


def make_shard(task: Task, tick: process_pool.Tick) -> Shard:
    """Write one shard aside, flush it and rename it; a function of the task alone."""
    path = task.folder / SHARD_NAME.format(task.number)
    reword = _rewording(task)
    aside = Aside(path)
    skipped: list[tuple[str, str]] = []
    try:
        with aside.path.open("wb") as file:
            writer = ShardWriter(file)
            for place, entry in enumerate(task.entries, task.first):
                writer.mark()
                try:
                    for number, members in enumerate(_groups(entry, task, reword)):
                        tick(0)
                        writer.write(f"c{place:06d}-g{number:05d}", members)
                except Unusable as reason:
                    if task.strict:
                        raise _strict_error(entry.name, str(reason)) from reason
                    writer.take_back()
                    skipped.append((entry.name, str(reason)))
                tick(1)
            writer.finish()
        digest, size = hash_of([aside.path]), aside.path.stat().st_size
        aside.commit()
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        aside.discard()
    return Shard(
        file=path.name,
        sha256=digest,
        bytes=size,
        samples=writer.samples,
        clips=len(task.entries),
        skipped=tuple(skipped),
        dropped_captions=sum(entry.dropped for entry in task.entries if isinstance(entry, ClipEntry)),
    )


def _groups(entry: Entry, task: Task, reword: Callable[[Sequence[str]], list[str]]) -> Iterator[Members]:
    if isinstance(entry, SceneEntry):
        return scene_groups(entry, task.settings)
    return clip_groups(entry, task.settings, reword, opened(task.looking))


def _rewording(task: Task) -> Callable[[Sequence[str]], list[str]]:
    """Other wordings of a clip's captions: by rule, or by the user's program, which is run once for a shard."""
    count, command = task.settings.variations, task.settings.captioner
    if task.looking.rewording_model is not None and count:
        return lambda captions: opened(task.looking).reword(captions, count)
    if command is None or not count:
        return lambda captions: variations(captions, count)
    usable = [entry for entry in task.entries if isinstance(entry, ClipEntry) and not entry.problem]
    distinct = list(dict.fromkeys(text for entry in usable for text in entry.captions))
    answers = ask(command, distinct, count) if distinct else {}

    def reword(captions: Sequence[str]) -> list[str]:
        if made := [caption for caption in captions if caption not in answers]:  # by a model, a moment ago
            answers.update(ask(command, made, count))
        found = dict.fromkeys(text for caption in captions for text in answers[caption])
        return [text for text in found if text not in captions]

    return reword


def _to_be_captioned(source: Source) -> Source:
    """The source with its clips that have no captions, which a model is to make."""
    entries = [
        replace(entry, problem=None)
        if isinstance(entry, ClipEntry) and entry.problem == NO_CAPTIONS
        else entry
        for entry in source.entries
    ]
    return replace(source, entries=entries)


@contextmanager
def _locked(out: Path) -> Generator[None]:
    """Make the folder if need be, and hold it against other builds."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise OutputError(f"{shown(out)} is being built by another process; wait for it to end.") from error
    except (OSError, ValueError, NotImplementedError) as error:
        raise unwritable(out, error) from error
    try:
        yield
    finally:
        lock.release()


def _begun(out: Path, source: Source, settings: DataSettings, models: Mapping[str, str]) -> Manifest:
    """The manifest to go on from, with the finished shards that are there; a new one in a new folder."""
    count = -(-len(source.entries) // settings.clips_per_shard)
    new = Manifest(settings=settings, source=source.description, shard_count=count, models=models)
    if not (out / NAME).exists():
        if foreign := foreign_to(out, r"shard-.*", r"\.evenreel-.*", re.escape(LOCK)):
            raise OutputError(
                f"{shown(out)} holds other files ({shown(foreign)}); "
                f"choose a new or empty folder as {argument('output')}."
            )
        new.write(out)
        return new
    found = read_manifest(out)
    _same(found, new, out)
    sweep(out)
    there = [shard for shard in found.shards if _size(out / shard.file) == shard.bytes]
    return replace(found, shards=tuple(there))


def _same(found: Manifest, new: Manifest, out: Path) -> None:
    before = {**found.settings.to_json(), **found.source, **found.models}
    now = {**new.settings.to_json(), **new.source, **new.models}
    for name in dict.fromkeys((*before, *now)):
        if before.get(name) != now.get(name):
            change = f"{name} was {before.get(name)} and is now {now.get(name)}"
            if name == "sha256":
                change = "its clips or captions have changed"
            elif name in found.models or name in new.models:
                change = f"{name} was another, or none"
            raise SettingsError(
                f"{shown(out)} was begun otherwise ({change}); "
                f"give the same again, or choose another {argument('output')}."
            )


def _tasks(
    source: Source,
    settings: DataSettings,
    out: Path,
    manifest: Manifest,
    strict: bool,
    looking: LookingSettings,
) -> Iterator[Task]:
    finished = {shard.file for shard in manifest.shards}
    size = settings.clips_per_shard
    for number in range(manifest.shard_count):
        if SHARD_NAME.format(number) not in finished:
            entries = tuple(source.entries[number * size : (number + 1) * size])
            yield Task(
                number=number,
                first=number * size,
                entries=entries,
                settings=settings,
                folder=out,
                strict=strict,
                looking=looking,
            )


def _refuse(manifest: Manifest, source: Source) -> None:
    """Raise for the first clip that is known to be of no use, before anything is built."""
    for name, reason in manifest.skipped:
        raise _strict_error(name, reason)
    for entry in source.entries:
        if isinstance(entry, ClipEntry) and entry.problem is not None:
            raise _strict_error(entry.name, entry.problem)


def _check_captions(source: Source, *, strict: bool) -> None:
    """Warn of captions that trainings cut, or refuse the first of them."""
    found = caption_length.too_long(
        (entry.name, caption)
        for entry in source.entries
        if isinstance(entry, ClipEntry) and not entry.problem
        for caption in entry.captions
    )
    if found and strict:
        raise _strict_error(
            found[0].clip,
            f"'{found[0].caption[:40]}...' has {found[0].tokens} tokens, and "
            f"{caption_length.MOST_TOKENS} are read",
        )
    if found:
        logger.warning("%s", caption_length.sentence(found))


def _strict_error(name: str, reason: str) -> DataError:
    return DataError(
        f"{name} cannot be used: {reason}; mend or remove it, or leave {argument('strict')} out to go on without."
    )


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
