"""A job of which only its folder is known, made or taken up."""

from pathlib import Path

from evenreel.backbones import Backbone
from evenreel.jobs.job import Job
from evenreel.progress import Progress, silent
from evenreel.settings import EditSettings
from evenreel.workflows.editing.edit import EditResult, edit_file


def resume_job(job: Job, *, progress: Progress = silent, backbone: Backbone | None = None) -> EditResult:
    """Make what a job is for, from where it was stopped. Raises any EvenreelError."""
    task = job.state.task
    settings = EditSettings.from_json(task.settings)
    return edit_file(
        Path(task.source),
        Path(task.output),
        settings,
        progress=progress,
        backbone=backbone,
        download=task.download,
        job=job,
    )
