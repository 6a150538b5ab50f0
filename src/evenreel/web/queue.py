"""The page's queue: jobs that wait, made one after the other by a thread of the page's process."""

import hashlib
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from evenreel.errors import EvenreelError, OutputError, SettingsError
from evenreel.files import shown, write_atomically
from evenreel.jobs import places
from evenreel.jobs.job import Job, Task, all_jobs
from evenreel.settings import EditSettings
from evenreel.video import probe
from evenreel.workflows.batch.worker import LastModel
from evenreel.workflows.editing.records import job_use, record
from evenreel.workflows.editing.resume import resume_job

MOST = 100
"""Jobs that may wait."""
OURS = "page"
"""What notes of jobs that the page made hold."""
POLL_SECONDS = 0.5


def folder() -> Path:
    """Return where clips that were given to the page and their edits lie."""
    return places.root() / "page"


class Queue:
    """Makes the jobs that wait, the oldest first; those of a page that was stopped go on."""

    def __init__(self) -> None:
        self._model = LastModel()
        self._cancelled: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="evenreel page")

    def start(self) -> None:
        """Begin to make the jobs that wait."""
        self._thread.start()

    def stop(self) -> None:
        """Stop working; the job at hand goes on when a page is started again."""
        self._end.set()
        self._thread.join()

    def submit(self, clip: Path, settings: EditSettings) -> Job:
        """Add an edit. Raises: ClipError for what is not a clip, SettingsError where too many wait."""
        if len(waiting()) >= MOST:
            raise SettingsError(f"{MOST} jobs wait already; wait for some of them, or cancel some.")
        probe(clip)
        source = kept_clip(clip)
        plain = record.plain(job_use.found_again(settings))
        digest = hashlib.sha256(repr((str(source), sorted(plain.items(), key=str))).encode()).hexdigest()[:10]
        output = folder() / "results" / f"{source.stem[:40]}-{digest}.mp4"
        output.parent.mkdir(parents=True, exist_ok=True)
        task = Task(source=str(source), output=str(output), settings=plain)
        job = Job.of(task, notes={OURS: True, job_use.WATCHED: True})
        if job.status not in ("running", "waiting"):
            job.state.notes = {OURS: True, job_use.WATCHED: True}
            job.state.made = time.time()
            self._cancelled.discard(job.name)
            job.state.stage, job.state.done, job.state.total = "", 0, None
            job.say("waiting")
        return job

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue, or stop it; what it has done is kept."""
        self._cancelled.add(job.name)
        if job.status != "running":
            job.say("cancelled")

    def _work(self) -> None:
        while not self._end.wait(POLL_SECONDS):
            for job in waiting()[:1]:
                self._make(job)

    def _make(self, job: Job) -> None:
        settings: dict[str, Any] = job.state.task.settings

        def progress(stage: str, done: int, total: int | None) -> None:
            if self._end.is_set() or job.name in self._cancelled:
                raise KeyboardInterrupt

        try:
            read = EditSettings.from_json(settings)
            resume_job(
                job, progress=progress, backbone=self._model.of(read, download=job.state.task.download)
            )
        except KeyboardInterrupt:
            if job.name in self._cancelled:
                with suppress(EvenreelError):
                    job.say("cancelled")
        except Exception as error:  # noqa: BLE001 - the queue outlives whatever a job fails of
            with suppress(EvenreelError):
                job.say("failed", error=str(error))


def page_jobs() -> list[Job]:
    """Return the jobs of pages, the newest first."""
    return [job for job in all_jobs() if job.state.notes.get(OURS)]


def waiting() -> list[Job]:
    """Return the jobs that are to be made and that nobody makes, the oldest first."""
    return [job for job in reversed(page_jobs()) if job.status in ("waiting", "stopped")]


def kept_clip(clip: Path) -> Path:
    """Keep a clip that was given to the page, under its name and in a folder named by its content.

    Raises: OutputError where it cannot be kept.
    """
    if any(clip.is_relative_to(folder() / own) for own in ("clips", "results")):
        return clip  # uploads are not: they go when the page is started again
    target = folder() / "clips" / record.hash_of((clip,))[:16] / clip.name
    if not target.is_file():
        made_room(target)
        write_atomically(target, lambda path: shutil.copyfile(clip, path))
    return target


def made_room(target: Path) -> None:
    """Make the folder that a file is kept in. Raises: OutputError where it cannot be made."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{shown(target.parent)} cannot be made ({error.strerror}); free some space."
        ) from error
