"""What works on rows of a table, wherever it runs: it holds the model that the last row needed."""

import time
from dataclasses import dataclass
from typing import Any

from evenreel.backbones import Backbone
from evenreel.errors import EvenreelError
from evenreel.jobs.job import Job
from evenreel.progress import Progress, silent
from evenreel.settings import EditSettings
from evenreel.workflows.batch.table import Row, model_of
from evenreel.workflows.editing.resume import resume_job
from evenreel.workflows.editing.setup.run_setup import loaded, may_be_mixed

WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Outcome:
    """What became of a row."""

    number: int
    output: str
    seconds: float = 0.0
    error: str | None = None
    """The sentence that says why there is no result."""
    found: bool = False
    """Whether it was there from an earlier run."""


class LastModel:
    """The model that was needed last; the next edit may need the same."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._backbone: Backbone | None = None

    def of(self, settings: EditSettings, *, download: bool = False) -> Backbone:
        """Return the model of some settings, loaded unless it is there. Raises: WeightsError, PluginError."""
        key = (*model_of(settings), may_be_mixed(settings))
        if self._backbone is None or key != self._key:
            self._backbone = None  # there may not be room for two
            self._backbone = loaded(settings, download=download)
            self._key = key
        return self._backbone


class Worker:
    """Makes rows, one after the other."""

    def __init__(self, patience: float = 0.0) -> None:
        """`patience` is for how many seconds a row waits for another worker that still holds its job."""
        self._model, self._patience = LastModel(), patience

    def make(self, row: Row, progress: Progress = silent) -> Outcome:
        """Make a row, or go on with it; an error that the user can mend is part of the outcome."""
        try:
            job = Job.of(row.task)
            until = time.monotonic() + self._patience
            while time.monotonic() < until and job.is_held():
                time.sleep(WAIT_SECONDS)
            backbone = self._model.of(row.settings, download=row.task.download)
            result = resume_job(job, progress=progress, backbone=backbone)
        except EvenreelError as error:
            return Outcome(row.number, str(row.output), error=str(error))
        return Outcome(row.number, str(row.output), seconds=sum(result.record["seconds"].values()))
