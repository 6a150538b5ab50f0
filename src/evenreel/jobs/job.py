"""A job: a folder that says what is to be made and keeps what was done so far. Nothing else knows of it.

    job.json              what is to be made, of what, how far it is
    encoded.safetensors   the clip in latents
    reached.safetensors   latents after the last step kept; of a scene behind a cut, reached-48.safetensors; with the
                          prompt of a region, reached-region-1.safetensors or reached-48-region-1.safetensors
    preview.jpg           a frame of these

A process that works on a job holds a lock, which the system frees when the process ends, however it ends.
"""

import hashlib
import json
import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from evenreel.errors import EvenreelError, OutputError, SettingsError, argument
from evenreel.files import foreign_to, shown, sweep, write_atomically
from evenreel.jobs import places

VERSION = 1
FILE, LOCK = "job.json", ".lock"
ENCODED, REACHED, PREVIEW = "encoded.safetensors", "reached.safetensors", "preview.jpg"
OURS = (
    r"job\.json",
    r"\.lock",
    r"(encoded|reached(-\d+)?(-region-\d+)?)\.safetensors",
    r"preview\.jpg",
    r"\.evenreel-.*",
    r"upload\..*",
)
MOMENT = 1.0
"""Seconds between two writings of how far a job is."""
HISTORY = 500
"""Jobs of the cache that are done and remembered."""


class Task(BaseModel):
    """What is to be made; equal tasks are the same job."""

    model_config = ConfigDict(strict=True, frozen=True)

    source: str
    output: str
    settings: dict[str, Any]
    download: bool = False

    @property
    def name(self) -> str:
        """A short name that follows from all of it."""
        told = json.dumps(self.model_dump(exclude={"download"}), sort_keys=True)
        return hashlib.sha256(told.encode("utf-8", "backslashreplace")).hexdigest()[:12]


class State(BaseModel):
    """What `job.json` holds."""

    model_config = ConfigDict(strict=True, extra="ignore")

    version: int = VERSION
    task: Task
    identity: dict[str, Any] = {}
    """Hashes of the source and the model, and what else decides the last digits: what is kept holds for these alone."""
    status: str = "waiting"
    """waiting, running, stopped, failed or done."""
    stage: str = ""
    done: int = 0
    total: int | None = None
    encoded: int = 0
    """Frames whose latents are whole on disk."""
    inversion: str | None = None
    """Name of the inversion among those that edits share."""
    error: str | None = None
    seconds: dict[str, float] = {}
    """Spent so far, by stage."""
    made: float = 0.0
    touched: float = 0.0
    notes: dict[str, Any] = {}
    """Of whoever made the job."""


@dataclass
class Job:
    """A job's folder and what its file says."""

    folder: Path
    state: State
    _written: float = field(default=0.0, repr=False)

    @classmethod
    def of(cls, task: Task, folder: Path | None = None, *, notes: Mapping[str, Any] | None = None) -> "Job":
        """Return the job of a task: begun, or found in its folder. `folder` None is one of its own in the cache.

        Raises: SettingsError for a folder with another job, OutputError for one that cannot be used.
        """
        own = folder is None
        folder = places.jobs() / task.name if folder is None else folder.absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            foreign = foreign_to(folder, *OURS)
        except OSError as error:
            raise OutputError(
                f"{shown(folder)} cannot be used ({error.strerror}); choose another {argument('job')}."
            ) from error
        if foreign is not None:
            raise OutputError(
                f"{shown(folder)} holds other files ({shown(foreign)}); choose a new or empty folder as "
                f"{argument('job')}."
            )
        sweep(folder)
        if (folder / FILE).exists():
            try:
                job = cls.read(folder)
            except OutputError:
                if not own:
                    raise
                _emptied(folder)  # nobody chose it
            else:
                _check_same(job, task)
                return job
        else:
            _emptied(folder)
        job = cls(folder, State(task=task, made=time.time(), notes=dict(notes or {})))
        job.write()
        return job

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """Return the job in a folder. Raises: OutputError where there is none, or one that cannot be read."""
        path = folder / FILE
        try:
            values: Any = json.loads(path.read_text(encoding="utf-8"))
            told = cast("dict[str, Any]", values) if isinstance(values, dict) else {}
            version = told.get("version")
            if isinstance(version, int) and version != VERSION:
                raise OutputError(
                    f"{shown(folder)} is a job of version {version}, and this evenreel reads {VERSION}; use the "
                    f"evenreel that began it, or choose another {argument('job')}."
                )
            return cls(folder, State.model_validate(values))
        except FileNotFoundError as error:
            raise OutputError(
                f"{shown(folder)} is not a job; `evenreel jobs list` shows those there are."
            ) from error
        except (OSError, ValueError, RecursionError, ValidationError) as error:
            raise OutputError(
                f"{shown(path)} is damaged; delete the folder, and begin the job again."
            ) from error

    @property
    def name(self) -> str:
        """By which commands know it."""
        return self.folder.name

    @property
    def status(self) -> str:
        """As its file says; a job that says that it runs, and whose process is gone, is stopped."""
        return "stopped" if self.state.status == "running" and not self.is_held() else self.state.status

    def is_held(self) -> bool:
        """Tell whether a process works on it."""
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            return True
        lock.release()
        return False

    @contextmanager
    def held(self) -> Generator["Job"]:
        """Work on the job while inside; nobody else can. Says in its file how it went.

        Raises: OutputError where another process works on it.
        """
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(
                f"{shown(self.folder)} is being worked on by another process; wait for it, or choose another "
                f"{argument('job')}."
            ) from error
        try:
            self.state = Job.read(self.folder).state
            self.say("running", error=None)
            yield self
        except EvenreelError as error:
            self._end("failed", str(error))
            raise
        except (KeyboardInterrupt, SystemExit):
            self._end("stopped")
            raise
        except BaseException as error:
            self._end("failed", f"{type(error).__name__}: {error}")
            raise
        else:
            self.forget()
            self._end("done")
        finally:
            lock.release()

    def begin(self, identity: Mapping[str, Any]) -> bool:
        """Say for what exactly things are kept; what is there for other weights, another source or machine is dropped.

        Returns whether something was dropped.
        """
        identity = dict(json.loads(json.dumps(identity)))
        dropped = bool(self.state.identity) and self.state.identity != identity and self.state.encoded > 0
        if self.state.identity != identity:
            self.forget()
            self.state.identity, self.state.seconds, self.state.inversion = identity, {}, None
            self.write()
        return dropped

    def forget(self) -> None:
        """Remove what is only needed to go on."""
        self.state.encoded = 0
        for path in (self.folder / ENCODED, *self.folder.glob(reached_name("*")), self.folder / REACHED):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def follow(self, stage: str, done: int, total: int | None) -> None:
        """Note how far the job is, now and then."""
        news = stage.partition(": ")[0] != self.state.stage
        self.state.stage, self.state.done, self.state.total = stage.partition(": ")[0], done, total
        if news or time.monotonic() - self._written >= MOMENT:
            self.write()

    def say(self, status: str, *, error: str | None = None) -> None:
        """Write another status of the job into its file."""
        self.state.status, self.state.error = status, error
        self.write()

    def write(self) -> None:
        """Write the job's state into its file. Raises: OutputError."""
        self.state.touched = time.time()
        self._written = time.monotonic()
        write_atomically(self.folder / FILE, self.state.model_dump_json(indent=1) + "\n")

    def _end(self, status: str, error: str | None = None) -> None:
        with suppress(OutputError):  # a disk that is full: what the job failed of is told all the same
            self.say(status, error=error)


def all_jobs() -> list[Job]:
    """Return the jobs of the cache, the newest first; those that cannot be read are left out."""
    found: list[Job] = []
    folder = places.jobs()
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(OutputError):
            found.append(Job.read(path))
    return sorted(found, key=lambda job: -job.state.made)


def find(name: str) -> Job:
    """Return the job of a name, the beginning of one, or a folder. Raises: SettingsError, OutputError."""
    path = Path(name)
    if (path / FILE).is_file() or "/" in name or os.sep in name:
        return Job.read(path.absolute())
    matching = [job for job in all_jobs() if job.name.startswith(name)] if name else []
    if len(matching) != 1:
        said = "no job" if not matching else "several jobs"
        raise SettingsError(f"{said} {shown(name)!r}; `evenreel jobs list` shows those there are.")
    return matching[0]


def remove(job: Job) -> None:
    """Remove a job's folder, but not what stands in it that is not ours. Raises: OutputError while it is worked on."""
    if job.is_held():
        raise OutputError(f"{shown(job.folder)} is being worked on; stop that first.")
    _emptied(job.folder)
    with suppress(OSError):
        job.folder.rmdir()


def forget_oldest() -> None:
    """Remove the oldest of the jobs that are done, where there are very many."""
    for job in [one for one in all_jobs() if one.state.status == "done"][HISTORY:]:
        with suppress(OutputError):
            remove(job)


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        if foreign_to(folder, *OURS) is None or path.name in (FILE, LOCK, ENCODED, REACHED, PREVIEW):
            with suppress(OSError):
                path.unlink()


def _check_same(job: Job, task: Task) -> None:
    then, now = job.state.task, task
    if then.name == now.name:
        return
    for name in ("source", "output"):
        if getattr(then, name) != getattr(now, name):
            raise _other(job, name, getattr(then, name))
    names = {*then.settings, *now.settings}
    differing = sorted(name for name in names if then.settings.get(name) != now.settings.get(name))
    raise _other(job, argument(differing[0]), then.settings.get(differing[0]))


def _other(job: Job, name: str, then: object) -> SettingsError:
    return SettingsError(
        f"{shown(job.folder)} is a job with {name} {shown(str(then))!r}; tell the same, or choose another "
        f"{argument('job')}."
    )


def reached_name(first: int | str, region: int = 0) -> str:
    """Return the name of the file that holds latents of a scene whose first frame has that number.

    With `region` it is that of one with the prompt of the n-th region, counted from 1.
    """
    scene, prompt = f"-{first}" if first else "", f"-region-{region}" if region else ""
    return f"reached{scene}{prompt}.safetensors"
