"""`evenreel info`, `hosts`, `inversions` and `doctor`: commands that only look."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from evenreel.cli.console import stdout

if TYPE_CHECKING:
    from evenreel.video import VideoInfo
    from evenreel.workflows.inspect.descriptions import HostDescription

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("hosts")(hosts)
    app.command("inversions")(inversions)
    app.command("info")(info)
    app.command("doctor")(doctor)


def info(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="Video or folder of images.")],
    as_json: AsJson = False,
) -> None:
    """Show what CLIP says about itself (size as displayed, frame rate, duration, tracks) and what edits carry over."""
    from evenreel.outputs import plain
    from evenreel.video import probe
    from evenreel.workflows.inspect.clip import kept_of, sound_in

    found = probe(clip)
    values = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    carried, kept = sound_in(found), kept_of(found)
    if as_json:
        typer.echo(json.dumps(plain({**values, "sound_in": carried, "kept": kept}), indent=2))
        return
    table = _table("property", "value")
    for name, value in (*_summary(found), *_kept(kept), *_tracks(found)):
        table.add_row(escape(name), escape(value))
    for kind, what in carried.items():
        table.add_row(f"sound in {kind}", escape(what))
    stdout().print(table)


def _summary(found: "VideoInfo") -> Iterator[tuple[str, str]]:
    yield "path", str(found.path)
    yield "format", f"{found.container or 'unknown'}, {found.codec} {found.pixel_format}".strip()
    yield "size", f"{found.width} x {found.height} as displayed"
    turned = f"by {found.rotation} degrees{', mirrored' if found.mirrored else ''}"
    if found.rotation or found.mirrored:
        yield "turned", turned
    if found.pixel_aspect != 1:
        yield "pixel aspect", str(found.pixel_aspect)
    declared = "not declared" if found.frame_count is None else str(found.frame_count)
    yield "frames", f"{len(found.images)} images" if found.images else declared
    if found.average_rate is not None:
        exact = "" if found.average_rate.denominator == 1 else f" ({found.average_rate})"
        yield "frames a second", f"{float(found.average_rate):.6g}{exact}"
    if found.duration is not None:
        yield "duration", f"{float(found.duration):.3f} s"
    yield "sound", str(found.audio_codec or "yes") if found.has_audio else "none"
    special = [name for name in ("interlaced", "hdr", "has_alpha") if getattr(found, name)]
    if special:
        yield "special", ", ".join(name.replace("has_", "") for name in special)


def _kept(kept: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What results keep beside pictures and sound, one line each."""
    yield from kept.get("metadata", {}).items()
    for number, (start, end, title) in enumerate(kept.get("chapters", ()), start=1):
        yield f"chapter {number}", f"{start:.3f} to {end:.3f} s{f', {title}' if title else ''}"
    if "timecode" in kept:
        yield "timecode", kept["timecode"]


def _tracks(found: "VideoInfo") -> Iterator[tuple[str, str]]:
    for track in found.tracks:
        parts = (
            track.holds or track.codec or "unknown codec",
            track.detail,
            track.language,
            track.title,
            *track.flags,
        )
        used = "used" if track.used else "carried over" if track.holds else "not carried over"
        if track.kind == "audio" and not track.used and track.codec is not None:
            used = f"not carried over; --sound-track {track.number} does"
        yield f"{track.kind} {track.number}", f"{', '.join(part for part in parts if part)} ({used})"


def hosts(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Host whose settings are shown; without a name, all hosts are listed."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the hosts (the algorithms that keep frames consistent), or the settings of one."""
    from evenreel.workflows.inspect.descriptions import describe_host, host_summaries

    if name is None:
        _list("host", host_summaries(), as_json=as_json)
    else:
        _describe(describe_host(name), as_json=as_json)


def inversions(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Inversion whose settings are shown; without a name, all inversions are listed.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the inversions (the ways from a clip to the noise that an edit starts from), or the settings of one."""
    from evenreel.workflows.inspect.descriptions import describe_inversion, inversion_summaries

    if name is None:
        _list("inversion", inversion_summaries(), as_json=as_json)
    else:
        _describe(describe_inversion(name), as_json=as_json)


def _list(kind: str, summaries: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(
            json.dumps([{"name": name, "summary": text} for name, text in summaries.items()], indent=2)
        )
        return
    table = _table(kind, "what it does")
    for name, summary in summaries.items():
        table.add_row(name, escape(summary))
    stdout().print(table)
    stdout().print(
        f"Settings of one: evenreel {kind}s NAME. Use: evenreel edit --{kind} NAME --{kind}-option KEY=VALUE"
    )


def _describe(description: "HostDescription", *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(description), indent=2, default=str))
        return
    stdout().print(description.summary, markup=False)
    table = _table("setting", "default", "what it means")
    for setting in description.settings:
        table.add_row(setting.name, escape(_as_told(setting.default)), escape(setting.meaning))
    if description.settings:
        stdout().print(table)
    else:
        stdout().print("It has no settings.")


def _as_told(value: object) -> str:
    """A value as `--host-option` and `--inversion-option` read it."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def doctor(as_json: AsJson = False) -> None:
    """Check what is installed, which device will be used, and what is missing and how to get it.

    The exit status is 1 when something essential is missing.
    """
    from evenreel.workflows.inspect.doctor import examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}
        table = _table("", "what", "found", "what to do")
        for finding in findings:
            table.add_row(marks[finding.state], finding.name, escape(finding.found), escape(finding.advice))
        stdout().print(table)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
