"""`evenreel jobs`: what edits keep, so that one that was stopped goes on."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evenreel.cli.console import shown_progress, stdout
from evenreel.cli.edit import going_on, print_result
from evenreel.cli.options import Quiet
from evenreel.errors import EvenreelError

if TYPE_CHECKING:
    from evenreel.jobs.job import Job

app = typer.Typer(
    name="jobs",
    help="Show jobs (what is kept of each edit while it is made), and go on with those that were stopped.",
    no_args_is_help=True,
)
Name = Annotated[
    str, typer.Argument(metavar="JOB", help="Name of the job, the beginning of it, or the job's folder.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(parent: typer.Typer) -> None:
    """Add these commands to the program."""
    parent.add_typer(app)


@app.command("list")
def list_jobs(as_json: Json = False) -> None:
    """List the jobs of the cache, the newest first."""
    from evenreel.jobs import places
    from evenreel.jobs.job import all_jobs

    jobs = all_jobs()
    if as_json:
        stdout().print_json(json.dumps([described(job) for job in jobs]))
        return
    for job in jobs:
        output = Path(job.state.task.output).name
        prompt = str(job.state.task.settings.get("prompt", ""))
        line = f"{job.name}  {_how_far(job):28}  {_ago(job.state.touched):>8}  {output}  {prompt!r}"
        stdout().print(line, markup=False)
    kept = places.size_of(places.inversions())
    stdout().print(
        f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}; {kept / 1e6:.1f} MB of inversions, of at most "
        f"{places.limit() / 1e9:g} GB, in {places.root()}",
        markup=False,
    )


@app.command("show")
def show(job: Name, as_json: Json = False) -> None:
    """Show what a job is to make, and how far it is."""
    from evenreel.jobs.job import find

    found = described(find(job))
    if as_json:
        stdout().print_json(json.dumps(found))
        return
    for key, value in found.items():
        if key != "settings" and value not in (None, {}):
            stdout().print(f"{key}: {value}", markup=False)
    for key, value in found["settings"].items():
        if value not in (None, "", {}):
            stdout().print(f"  {key}: {value}", markup=False)


@app.command("resume")
def resume(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="JOB", help="Name of the job, or its folder.", show_default="all that were stopped"
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Go on with a job that was stopped or failed; without a name, with all of them, the oldest first."""
    from evenreel.jobs.job import all_jobs, find
    from evenreel.workflows.editing.resume import resume_job

    unfinished = ("waiting", "stopped", "failed")
    for one in (
        [find(job)] if job is not None else [j for j in reversed(all_jobs()) if j.status in unfinished]
    ):
        with going_on(), shown_progress(quiet) as progress:
            result = resume_job(one, progress=progress)
        if not quiet:
            print_result(result)


@app.command("clean")
def clean(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JOB", help="Jobs to remove, by name or folder.", show_default="all that are done"
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Remove all jobs that nobody works on, and all inversions.")
    ] = False,
) -> None:
    """Remove jobs that are done, or those named; results stay where they are."""
    from evenreel.jobs import inversions, places
    from evenreel.jobs.job import all_jobs, find, remove

    before = places.size_of(places.root())
    chosen = [find(name) for name in jobs or ()] or [
        job for job in all_jobs() if everything or job.state.status == "done"
    ]
    removed = 0
    for job in chosen:
        try:
            remove(job)
            removed += 1
        except EvenreelError:
            if jobs:
                raise
    if everything and places.inversions().is_dir():
        for folder in places.inversions().iterdir():
            inversions.remove(folder)
    freed = max(0, before - places.size_of(places.root()))
    stdout().print(
        f"{removed} job{'' if removed == 1 else 's'} removed, {freed / 1e6:.1f} MB freed", markup=False
    )


def described(job: "Job") -> dict[str, Any]:
    """Return what is said of a job, as plain values."""
    state = job.state
    return {
        "name": job.name,
        "folder": str(job.folder),
        "status": job.status,
        "stage": state.stage,
        "done": state.done,
        "total": state.total,
        "source": state.task.source,
        "output": state.task.output,
        "error": state.error,
        "seconds": state.seconds,
        "inversion": state.inversion,
        "settings": state.task.settings,
    }


def _how_far(job: "Job") -> str:
    status = job.status
    if status in ("done", "waiting") or not job.state.stage:
        return status
    of = "" if job.state.total is None else f" of {job.state.total}"
    return f"{status}: {job.state.stage} {job.state.done}{of}"


def _ago(when: float) -> str:
    seconds = max(0.0, time.time() - when)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
