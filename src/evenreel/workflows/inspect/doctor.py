"""What is installed, where an edit would run, and what is missing and how to get it."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evenreel import registry
from evenreel._version import __version__
from evenreel.errors import EvenreelError
from evenreel.files import expanded
from evenreel.installed import WEIGHTS, libraries

if TYPE_CHECKING:
    import torch

EXTRAS = ("metrics", "web", "dev")
ENCODERS = {
    "libx264": "mp4, mov and mkv",
    "aac": "sound in mp4",
    "libvpx-vp9": "webm",
    "libopus": "sound in webm",
}
ESSENTIAL_ENCODERS = ("libx264", "aac")
MISSING = {
    "clip": ("CLIP", "EVENREEL_CLIP, or --clip"),
    "lpips": ("LPIPS", "EVENREEL_LPIPS, or --lpips"),
    "dino": ("DINO", "EVENREEL_DINO, or --dino"),
    "inception": ("Inception", "EVENREEL_INCEPTION, or --inception"),
    "flow": ("OpenCV", "pip install 'evenreel[metrics]', or --flow"),
}
"""What a metric may lack on a machine, and how to give it to `evenreel evaluate`."""
LITTLE_MEMORY = 3 * 2**30
"""Bytes below which even the packaged model is tight."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    state: Literal["ok", "note", "missing"]
    """`missing` is something an edit needs; `note` something worth knowing."""
    name: str
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at everything an edit needs. Nothing is loaded, changed or fetched.

    Without its libraries nothing else can be looked at, and nothing else is.
    """
    versions = list(_versions())
    if any(finding.state == "missing" for finding in versions):
        return versions
    return [*versions, *_machine(), *_codecs(), *_plugins(), *_weights(), *_metrics(), *_extras()]


def _versions() -> Iterator[Finding]:
    yield Finding("ok", "evenreel", __version__)
    yield Finding("ok", "python", f"{platform.python_version()} ({sys.executable})")
    for library in libraries():
        if library.installed is None:
            yield Finding("missing", library.name, "not installed", library.command)
        elif not library.fits:
            found = f"{library.installed}, and {library.wanted} is needed"
            yield Finding("missing", library.name, found, library.command)
        else:
            yield Finding("ok", library.name, library.installed)


def _machine() -> Iterator[Finding]:
    import psutil
    import torch

    from evenreel.backbones.devices import choose_device, choose_dtype
    from evenreel.scratch import scratch_folder

    device = choose_device("auto")
    dtype = str(choose_dtype("auto", device)).removeprefix("torch.")
    if device.type == "cuda":
        size = torch.cuda.get_device_properties(device).total_memory
        yield Finding("ok", "device", f"{torch.cuda.get_device_name(device)}, {_gib(size)}, {dtype}")
    elif device.type == "cpu" and shutil.which("nvidia-smi") and torch.version.cuda is None:
        yield Finding(
            "note",
            "device",
            f"cpu, {dtype}",
            "there is an NVIDIA driver, but this PyTorch has no CUDA: reinstall torch",
        )
    else:
        threads = torch.get_num_threads()
        each = "thread" if threads == 1 else "threads"
        yield Finding("ok", "device", f"{device.type}, {threads} {each}, {dtype}")
    yield _number_types(device)
    memory = psutil.virtual_memory()
    tight = memory.available < LITTLE_MEMORY
    yield Finding(
        "note" if tight else "ok",
        "memory",
        f"{_gib(memory.available)} free of {_gib(memory.total)}",
        "close other programs, or edit with --batch 1" if tight else "",
    )
    scratch = scratch_folder()
    free = shutil.disk_usage(scratch).free
    yield Finding(
        "note" if free < LITTLE_MEMORY else "ok",
        "scratch space",
        f"{_gib(free)} free in {scratch}",
        "long clips spill there; set TMPDIR to a larger disk" if free < LITTLE_MEMORY else "",
    )


def _number_types(device: "torch.device") -> Finding:
    from evenreel.backbones.devices import DTYPES
    from evenreel.ops.number_types import is_slow, rate_text

    parts = [
        f"{name} {rate_text(dtype, device)}{' (slow)' if is_slow(dtype, device) else ''}"
        for name, dtype in DTYPES.items()
    ]
    advice = "" if is_slow(DTYPES["bfloat16"], device) else "--dtype bfloat16 needs less memory"
    one = "one thread: " if device.type == "cpu" else ""
    return Finding("ok", "number types", one + ", ".join(parts), advice)


def _codecs() -> Iterator[Finding]:
    from evenreel.video.codecs import has_encoder

    for encoder, use in ENCODERS.items():
        if has_encoder(encoder):
            yield Finding("ok", encoder, f"writes {use}")
        else:
            state = "missing" if encoder in ESSENTIAL_ENCODERS else "note"
            yield Finding(
                state, encoder, f"no encoder: {use} cannot be written", "pip install --force-reinstall av"
            )


def _plugins() -> Iterator[Finding]:
    kinds = ((registry.HOSTS, "host"), (registry.INVERSIONS, "inversion"), (registry.BACKBONES, "backbone"))
    for group, what in kinds:
        for name in registry.names(group):
            try:
                registry.find(group, name)
            except EvenreelError as error:
                yield Finding(
                    "note", f"{what} {name}", str(error), "update or uninstall the package it comes from"
                )
            else:
                yield Finding("ok", f"{what} {name}", "loads")
    if not registry.names(registry.HOSTS):
        yield Finding(
            "missing", "hosts", "none is registered", "pip install evenreel again: its metadata is missing"
        )


def _weights() -> Iterator[Finding]:
    from evenreel.backbones import load_backbone

    try:
        fingerprint = load_backbone("mini", device="cpu").fingerprint
    except EvenreelError as error:
        yield Finding("missing", "model mini", str(error), "install evenreel again")
    else:
        yield Finding("ok", "model mini", f"whole, fingerprint {fingerprint[:12]}")
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        yield Finding("note", "hub", "offline (HF_HUB_OFFLINE is set)", "unset it to fetch other models")
    else:
        yield Finding("ok", "hub", "online; models are fetched only with --download")
    yield Finding("ok", "hub cache", os.fspath(constants.HF_HUB_CACHE))


def _metrics() -> Iterator[Finding]:
    from evenreel.workflows.inspect.metric_list import describe_metrics

    given = []
    for need, variable in WEIGHTS.items():
        place = os.environ.get(variable, "")
        if (need, place) == ("clip", "mini") or (place and expanded(place).exists()):
            given.append(need)
        elif place:
            yield Finding("note", variable, f"names {place}, which is not there", "correct or unset it")
    for metric in describe_metrics(given):
        name = f"metric {metric.name}"
        if metric.available:
            yield Finding("ok", name, "can be computed")
        elif metric.lacking:
            missing = [MISSING[need] for need in metric.lacking]
            what, advice = (" and ".join(texts) for texts in zip(*missing, strict=True))
            yield Finding("note", name, f"without {what}", advice)
        else:
            yield Finding("note", name, metric.definition, "update or uninstall the package it comes from")


def _extras() -> Iterator[Finding]:
    for extra in EXTRAS:
        declared = libraries(extra)
        absent = [one.name for one in declared if one.installed is None]
        old = [f"{one.name} {one.installed} where {one.wanted} is needed" for one in declared]
        old = [text for text, one in zip(old, declared, strict=True) if one.installed and not one.fits]
        if absent or old:
            parts = ([f"without {', '.join(absent)}"] if absent else []) + old
            yield Finding("note", f"extra {extra}", ", ".join(parts), f"pip install 'evenreel[{extra}]'")
        else:
            yield Finding("ok", f"extra {extra}", "complete")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
