"""`evenreel adapter`: what files of weights are, and adapters to and from other tools."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from evenreel.cli.console import stdout

File = Annotated[Path, typer.Argument(metavar="FILE", help="Safetensors file, or the folder of a LoRA.")]
AdapterFile = Annotated[
    Path,
    typer.Argument(metavar="ADAPTER", help="Adapter file made by `evenreel train adapter`, or by import."),
]
LoraFile = Annotated[Path, typer.Argument(metavar="LORA", help="Safetensors file of a LoRA, or its folder.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    group = typer.Typer(no_args_is_help=True)
    group.command("info")(info)
    group.command("export")(export)
    group.command("import")(import_)
    app.add_typer(
        group, name="adapter", help="Say what files of weights are; exchange adapters with other tools."
    )


def info(
    file: File,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what FILE is: a model, a LoRA, an embedding, an autoencoder, a ControlNet, an adapter or something else."""
    from evenreel.workflows.inspect.weight_files import describe_file

    found = describe_file(file)
    if as_json:
        typer.echo(json.dumps({**dataclasses.asdict(found), "path": str(found.path)}, indent=2))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("property")
    table.add_column("value", overflow="fold")
    table.add_row("is", escape(found.said))
    table.add_row("used as", f"--{found.used_as}" if found.used_as else "not by evenreel")
    for name, value in {**found.facts, **found.metadata}.items():
        table.add_row(escape(str(name)), escape(str(value)))
    stdout().print(table)


def export(
    file: AdapterFile,
    output: Annotated[Path, typer.Option("--out", "-o", help="File to write, or a folder for it.")],
) -> None:
    """Write the LoRA of an adapter for diffusers and other tools."""
    from evenreel.workflows.inspect.weight_files import export_adapter

    stdout().print(f"{export_adapter(file, output)}: the adapter's LoRA", markup=False)


def import_(
    file: LoraFile,
    output: Annotated[Path, typer.Option("--out", "-o", help="Adapter file to write.")],
    model: Annotated[str, typer.Option("--model", help="Model that the LoRA was made for.")],
    licence: Annotated[
        str,
        typer.Option("--licence", help="Licence under which the LoRA comes, in one line such as CC-BY-4.0."),
    ],
) -> None:
    """Make an adapter of a LoRA that changes the attentions of a UNet."""
    from evenreel.workflows.inspect.weight_files import import_adapter

    stdout().print(f"{import_adapter(file, output, model=model, licence=licence)}: an adapter", markup=False)
