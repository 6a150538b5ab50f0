"""`evenreel study`: run the papers' experiments and report on them."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from evenreel.cli.console import shown_progress, stdout
from evenreel.cli.options import Quiet

DEFAULT_FOLDER = Path("runs/study")
Folder = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the study: its items, pictures and report.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    group = typer.Typer(
        help="Run the papers' experiments on a model and report on them.", no_args_is_help=True
    )
    group.command("run")(run)
    group.command("report")(report)
    group.command("table")(table)
    group.command("rate")(rate)
    group.command("form")(form)
    group.command("merge")(merge)
    group.command("sample-size")(sample_size)
    group.command("list")(list_experiments)
    app.add_typer(group, name="study")


def run(
    settings: Annotated[
        Path | None,
        typer.Argument(
            metavar="SETTINGS", help="TOML file with settings; without one, all experiments run on `mini`."
        ),
    ] = None,
    out: Folder = DEFAULT_FOLDER,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model to run the study on, as for an edit; it goes before that of SETTINGS.",
            show_default="mini",
        ),
    ] = None,
    clips: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of clips of yours with their edits in edits.csv, or of a benchmark, in the place of the "
            "rendered world.",
            show_default="the rendered world",
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            metavar="five|v2vbench|tgve|davis|msr-vtt",
            help="Benchmark that the folder of clips is.",
            show_default="none",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Take few short clips, to see the study work; nothing can be concluded from them."
        ),
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            help="Number of processes that share the work.",
            show_default="one a core, at most 4; 1 on a GPU",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Run what of the study has not been run yet, then make the report; stopped, it goes on where it was."""
    from evenreel.study.settings import StudySettings, changed, read_file
    from evenreel.study.study import run_study

    told = {
        "model": model,
        "footage": None if clips is None else str(Path(clips).absolute()),
        "benchmark": benchmark,
    }
    chosen = read_file(settings) if settings else StudySettings()
    chosen = changed(chosen, {name: value for name, value in told.items() if value is not None})
    with shown_progress(quiet) as progress:
        page = run_study(chosen.quick() if quick else chosen, out, progress, processes=processes)
    if not quiet:
        stdout().print(f"Report: {page}", markup=False)


def report(out: Folder = DEFAULT_FOLDER) -> None:
    """Make the report again, from what is recorded."""
    from evenreel.study.report.report import write_report

    stdout().print(f"Report: {write_report(out)}", markup=False)


def table(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Experiment to print; `evenreel study list` lists them.")
    ],
    out: Folder = DEFAULT_FOLDER,
    figures: Annotated[
        str, typer.Option(help="Figures to print, comma-separated.", show_default="all of the experiment")
    ] = "",
    medians: Annotated[bool, typer.Option("--medians", help="Print the median after each mean.")] = False,
) -> None:
    """Print what is recorded of an experiment as a table in Markdown; the report says what it means."""
    from evenreel.study.report.markdown import markdown

    only = [figure.strip() for figure in figures.split(",") if figure.strip()]
    stdout().print(markdown(out, name, only, medians=medians), markup=False, soft_wrap=True)


def rate(
    rater: Annotated[
        str, typer.Option(help="Name of the person who rates; the same name goes on where it stopped.")
    ],
    out: Folder = DEFAULT_FOLDER,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")
    ] = 8317,
    experiment: Annotated[
        str | None,
        typer.Option(
            help="Experiment whose clips are compared; `evenreel study list` lists them.", show_default="all"
        ),
    ] = None,
) -> None:
    """Serve a page on which a person compares clips blindly; answers are kept, and the report shows them."""
    from evenreel.study.rating.server import serve

    def ready(address: str) -> None:
        stdout().print(f"Open {address} (Ctrl-C ends)", markup=False)

    serve(out, rater, port, ready, experiment)


def form(
    rater: Annotated[str, typer.Option(help="Name of the person who will rate.")],
    page: Annotated[
        Path | None,
        typer.Option("--page", help="HTML file to write.", show_default="RATER.html in the study's folder"),
    ] = None,
    out: Folder = DEFAULT_FOLDER,
    experiment: Annotated[
        str | None,
        typer.Option(
            help="Experiment whose clips are compared; `evenreel study list` lists them.", show_default="all"
        ),
    ] = None,
) -> None:
    """Write a page to send to a person who rates; it needs a browser only, and `study merge` takes what it saves."""
    from evenreel.study.rating.form import write_form

    name = "".join(letter if letter.isalnum() else "-" for letter in rater) or "rater"
    target = page or out / f"{name}.html"
    count = write_form(out, target, rater, experiment)
    stdout().print(f"{target}: {count} pairs for {rater}", markup=False)


def sample_size(
    preference: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of answers, from 0 to 1, that truly prefers the one condition."
        ),
    ],
    pairs: Annotated[int, typer.Option(min=1, help="Pairs that each person answers.")] = 20,
    power: Annotated[float, typer.Option(min=0.01, max=0.999, help="Chance that it is found.")] = 0.8,
    tests: Annotated[int, typer.Option(min=1, help="Comparisons that are tested at once.")] = 3,
    correlation: Annotated[
        float, typer.Option(min=0, max=1, help="How alike the answers of one person are, from 0 to 1.")
    ] = 0.1,
) -> None:
    """Print how many people must rate for a preference to be found, at the level of 5%."""
    from evenreel.study.rating.sample_size import raters_needed

    count = raters_needed(preference, pairs=pairs, power=power, tests=tests, correlation=correlation)
    stdout().print(f"{count} people with {pairs} pairs each", markup=False)


def merge(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Files of answers that came back: a page's answers.json, or a rater's ratings.sqlite.",
        ),
    ],
    out: Folder = DEFAULT_FOLDER,
) -> None:
    """Take the answers of other people's files into the study's own; what was answered twice counts once."""
    from evenreel.study.rating.form import take_answers
    from evenreel.study.rating.ratings import Ratings

    ratings = Ratings(out / "ratings.sqlite")
    taken = sum(
        take_answers(out, file, ratings) if file.suffix == ".json" else ratings.merge(file) for file in files
    )
    stdout().print(f"{taken} answers; {ratings.raters()} people have answered in all.", markup=False)


def list_experiments(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the experiments of a study, with the question that each one answers."""
    from evenreel.study.experiments.catalogue import experiments
    from evenreel.study.settings import StudySettings

    found = experiments(StudySettings())
    if as_json:
        rows = [{key: getattr(one, key) for key in ("name", "title", "source", "question")} for one in found]
        typer.echo(json.dumps(rows, indent=2))
        return
    listed = Table("name", "source", "question", box=None, header_style="bold")
    for one in found:
        listed.add_row(one.name, one.source, one.question)
    stdout().print(listed)
