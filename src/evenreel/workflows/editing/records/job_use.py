"""What an edit keeps in its job's folder while it is made, and finds there when it goes on."""

import dataclasses
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from evenreel import registry
from evenreel.backbones import Backbone
from evenreel.diffusion.inversion import Inverted
from evenreel.files import write_atomically
from evenreel.hosts.base import AttachesInversion, Carries, Host, Session
from evenreel.hosts.source_rows import NoRows, SourceRows
from evenreel.inversions.base import Inversion, SourceClip, is_random, may_be_guided
from evenreel.jobs import inversions, reached, source_rows, tensor_file
from evenreel.jobs.job import ENCODED, PREVIEW, Job, Task, reached_name
from evenreel.jobs.pace import Pace
from evenreel.jobs.reached import Reached
from evenreel.jobs.tensor_file import TensorFile
from evenreel.progress import Progress
from evenreel.settings import EditSettings, RunSettings
from evenreel.settings.fields import leaves
from evenreel.settings.kinds import Place, split_file
from evenreel.types import Frames, Latents
from evenreel.video import from_model
from evenreel.workflows.editing.records import record
from evenreel.workflows.editing.records.resource_use import Stopwatch

WATCHED = "watched"
"""What notes of jobs hold of which pictures are wanted on the way."""
AUTO, OFF = "auto", "off"
"""A folder of its own in the cache, and none."""
VOLATILE = ("made", "seconds", "peak_memory", "warnings", "notices", "settings", "record_version", "profile")
"""What records say and results do not depend on, or the job's task says."""


def opened(
    job: str | os.PathLike[str] | Job | None,
    source: Path,
    output: Path,
    settings: EditSettings,
    *,
    download: bool,
) -> Job | None:
    """Return the job of an edit; None where nothing is to be kept. Raises: SettingsError, OutputError."""
    if job is None or str(job) == OFF or isinstance(job, Job):
        return job if isinstance(job, Job) else None
    task = Task(
        source=str(source.absolute()),
        output=str(output.absolute()),
        settings=record.plain(found_again(settings)),
        download=download,
    )
    return Job.of(task, None if str(job) == AUTO else Path(job))


@dataclass
class Keeping:
    """A job at work, as the pipeline sees it."""

    job: Job
    stopwatch: Stopwatch
    pace: Pace = field(default_factory=Pace)
    show: Callable[[Latents], Frames] | None = None
    """Decodes a frame, for a picture of how far the edit is; None for jobs that nobody watches."""
    scene: int = 0
    """Number of the first frame of the scene that is edited."""
    prompt: int = 0
    """Which prompt is followed: 0 is the clip's, n that of the n-th region."""
    _encoded: TensorFile | None = None

    @classmethod
    def begun(
        cls,
        job: Job,
        stopwatch: Stopwatch,
        recorded: Mapping[str, Any],
        source: Mapping[str, Any],
        backbone: Backbone,
    ) -> "Keeping":
        """Take up what there is, unless it is of another source, model or machine; `recorded` is a record so far."""
        decides = {key: value for key, value in recorded.items() if key not in VOLATILE}
        job.begin({**record.plain(decides), "source": source["sha256"]})
        for stage, seconds in job.state.seconds.items():
            stopwatch.seconds[stage] = stopwatch.seconds.get(stage, 0.0) + seconds
        keeping = cls(job, stopwatch, show=backbone.decode if job.state.notes.get(WATCHED) else None)
        if job.state.encoded:
            keeping._encoded = tensor_file.found(job.folder / ENCODED)
            if keeping._encoded is None or keeping._encoded.rows < job.state.encoded:
                keeping.close()
                job.forget()
                keeping._encoded = None
        return keeping

    def encoded(self, start: int, count: int) -> Latents | None:
        """Return latents of frames from `start` on, where all of them are there."""
        if self._encoded is None or start + count > self.job.state.encoded:
            return None
        return self._encoded.tensor(start + count)[start:].clone()

    def encode(self, start: int, latents: Latents) -> None:
        """Keep latents of frames from `start` on."""
        if self._encoded is None:
            self._encoded = TensorFile(self.job.folder / ENCODED, tuple(latents.shape[1:]), latents.dtype)
        self._encoded.append(start, latents)
        if self.pace.due():
            self.encode_to(start + len(latents))

    def encode_to(self, count: int) -> None:
        """Say that so many frames are there."""
        if self._encoded is not None and count > self.job.state.encoded:
            with self.pace.spent():
                self._encoded.flush()
                self.job.state.encoded = count
                self._write()

    def of_scene(self, first: int) -> "Keeping":
        """Return the same for a scene that begins at a frame."""
        return dataclasses.replace(self, scene=first)

    def of_prompt(self, number: int) -> "Keeping":
        """Return the same for one of several prompts, each of which is followed in other places."""
        return dataclasses.replace(self, prompt=number)

    def reached(self, device: torch.device) -> Reached | None:
        """Return where sampling has got to."""
        return reached.read(self.job.folder / reached_name(self.scene, self.prompt), device)

    def reach(self, steps: int, latents: Latents, session: Session, *, last: bool) -> None:
        """Keep the latents after a step, now and then, and the last time."""
        if last or self.pace.due():
            with self.pace.spent():
                carried = session.carried() if isinstance(session, Carries) and not last else {}
                reached.write(
                    self.job.folder / reached_name(self.scene, self.prompt),
                    Reached(steps, latents, carried, last),
                )
                self._write()
                self._preview(latents)

    @contextmanager
    def inverted(
        self, source: SourceClip, inversion: Inversion, host: Host, decides: Mapping[str, Any]
    ) -> Generator[Inverted]:
        """Return the clip inverted: as found, or made and kept. `decides` is what else it depends on."""
        key = inversions.key_of({**decided(source, inversion, host), **decides})
        self.job.state.inversion = key
        frames, channels, height, width = source.latents.shape
        with inversions.kept(key, (frames, channels, height, width), source.latents.dtype) as kept:
            if kept is not None and kept.is_whole:
                yield kept.inverted(source.latents.device)
                return
            with inversion.inverted(dataclasses.replace(source, kept=kept)) as inverted:
                if kept is not None:
                    kept.finish(inverted)
                    self._write()
                yield inverted

    @contextmanager
    def source_rows(self, host: Host, settings: RunSettings) -> Generator[SourceRows]:
        """Hold the source's rows of edits by this host; nothing of them is kept while another edit has them."""
        decides = {
            "source": self.job.state.inversion,  # of this scene, by all that decides it
            "host": [host.name, record.plain(host)],
            "batch": settings.batch,
            "cache interval": settings.cache_interval,
        }
        with source_rows.kept(inversions.key_of(decides)) as pages:
            yield NoRows() if pages is None else pages

    def _preview(self, latents: Latents) -> None:
        """Save a picture of the middle frame as it is by now."""
        if self.show is None:
            return
        middle = len(latents) // 2
        frame = self.show(latents[middle : middle + 1])
        picture = Image.fromarray(from_model(frame, (frame.shape[3], frame.shape[2]))[0].cpu().numpy())
        write_atomically(self.job.folder / PREVIEW, lambda path: picture.save(path, quality=85))

    def close(self) -> None:
        """Let go of the files; what the job took is known by now, and written with its end."""
        self.job.state.seconds = self.stopwatch.so_far()
        if self._encoded is not None:
            self._encoded.close()

    def _write(self) -> None:
        self.job.state.seconds = self.stopwatch.so_far()
        self.job.write()


def decided(source: SourceClip, inversion: Inversion, host: Host) -> dict[str, Any]:
    """Return what an inversion's numbers follow from, as far as it knows of it, down to the last digits."""
    backbone: Backbone = source.backbone
    return {
        "latents": inversions.digest(source.latents),
        "model": backbone.fingerprint,
        "machine": record.machine(backbone),
        "versions": record.versions(),
        "inversion": [inversion.name, record.plain(inversion)],
        "timesteps": source.timesteps,
        "refinement": source.refinement if inversion.refines else 1,
        "prompt": inversions.digest(source.prompt_embeds),
        "guidance": [source.guidance_scale, inversions.digest(source.negative_prompt_embeds)]
        if may_be_guided(inversion)
        else None,
        "seed": [source.seed, source.cache_interval] if is_random(inversion) else None,
        "batch": [source.batch, source.together],
        "relative": source.may_be_relative,
        "host": [host.name, record.plain(host)] if isinstance(host, AttachesInversion) else None,
        "motion": None
        if source.motion is None
        else [source.motion.size, source.motion.most, sorted(source.motion.apart)],
    }


def both(one: Progress, other: Progress) -> Progress:
    """Return progress that two listen to."""

    def progress(stage: str, done: int, total: int | None) -> None:
        one(stage, done, total)
        other(stage, done, total)

    return progress


def found_again(settings: RunSettings, base: Path | None = None) -> dict[str, Any]:
    """Return settings as plain values, with names of folders and files that hold from another working directory too.

    `base` is the folder that names begin at; by default it is the working directory.
    """
    base = Path.cwd() if base is None else base
    values = settings.to_json()
    for leaf in leaves(type(settings)):
        place = next((one for one in leaf.added if isinstance(one, Place)), None)
        told = values.get(leaf.name)
        if place is None or not told or (place.or_packaged and registry.is_backbone(told)):
            continue
        values[leaf.name] = (
            [one and _absolute(one, base) for one in told]
            if isinstance(told, list)
            else _absolute(told, base)
        )
    return values


def _absolute(told: str, base: Path) -> str:
    """A file or folder by its whole path, with what stands behind it; anything else as it is."""
    if (base / told).exists():
        return str(base / told)
    name, more = split_file(told)
    return f"{base / name}:{more}" if more is not None and (base / name).exists() else told
