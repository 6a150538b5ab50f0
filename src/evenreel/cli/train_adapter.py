"""`evenreel train adapter`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from evenreel.cli.console import stdout
from evenreel.cli.options import Quiet, takes_changes, takes_settings
from evenreel.cli.training import is_first, training_shown
from evenreel.errors import DataError
from evenreel.training.adapter import recipes
from evenreel.training.adapter.settings import AdapterTrainingSettings, Watching


def suited_recipe(data: Path) -> str:
    """Return the recipe that suits a data set; where there is none, the training itself will say so."""
    from evenreel.training.data.manifest import read_manifest

    try:
        return recipes.suited(read_manifest(data).source)
    except DataError:
        return "edits"


@takes_settings
@takes_changes(AdapterTrainingSettings, {name: recipes.adapter(name) for name in recipes.NAMES})
def adapter(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder of shards made by `evenreel data build`.")
    ],
    told: Mapping[str, Any],
    watching: Watching,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder for states, logs and the adapter; a training begun there goes on."
        ),
    ] = Path("runs/adapter"),
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default="edits for rendered scenes, else clips",
            help="What the adapter learns from, and how: `edits`, led towards right answers; `clips`, what was "
            "measured best of what needs none; `published`, as the GE-Adapter's paper has it (arXiv:2501.04606); "
            "`published-code`, as its authors' code has it; `noise`, as published but for a temporal loss of our own.",
        ),
    ] = None,
    learn: Annotated[
        str | None, typer.Option(hidden=True, help="The name of --recipe in version 0.2.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train an adapter that makes edits consistent; stopped at any moment, the same command goes on.

    With `--recipe edits`, the steps are rounded up to whole edits.

    On several GPUs, or processes: `accelerate launch --multi_gpu -m evenreel train adapter DATA ...` (also on a CPU,
    with --device cpu at the end: accelerate's own --cpu starts one process only). OUT/log.jsonl and, where
    TensorBoard is installed, OUT/tensorboard hold the losses; OUT/adapter.safetensors is what comes out.
    """
    chosen = learn or recipe or suited_recipe(data)
    settings = recipes.adapter(chosen, **told)
    from evenreel.workflows.training.adapter import train_adapter

    with training_shown(quiet) as progress:
        path = train_adapter(data, out, settings, validation=watching.validate, progress=progress)
    if not quiet and is_first():
        stdout().print(f"Adapter: {path}", markup=False)
