"""Models by name: a folder, or one on the Hugging Face hub, of which nothing is fetched before its kind is known."""

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar, cast

from evenreel.backbones.folder import ModelFolder
from evenreel.backbones.sdxl_folder import SECOND, SDXLFolder, is_sdxl
from evenreel.errors import WeightsError, argument
from evenreel.files import expanded

logger = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds to wait for the hub's first answer; it is asked once."""
FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".sft")
"""How files of weights end, which the names of models on the hub do not."""

AnyFolder = TypeVar("AnyFolder", bound=ModelFolder)


def find(name: str, *, download: bool = False, kind: type[AnyFolder] = ModelFolder) -> AnyFolder:
    """Find the folder of a model, by path or by name on the Hugging Face hub.

    Nothing is fetched unless `download` is set; with it, a hub that cannot be reached is passed over where the whole
    model is on this machine. Raises: WeightsError when the model is not there.
    """
    path = expanded(name)
    if path.is_dir():
        return _of_family(kind, sdxl=is_sdxl(path))(path)
    if path.exists():
        raise WeightsError(f"{name}: is a single file, and a folder is needed; give {kind.wanted}.")
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or path.suffix in FILES:
        raise WeightsError(
            f"{name}: no such model folder or file, and no name on the Hugging Face hub (owner/model) either."
        )
    # Imported late: most runs use a folder, and this import costs a second.
    from huggingface_hub import constants

    if download and not constants.HF_HUB_OFFLINE:
        return _fetched_or_cached(name, kind)
    return _cached(name, kind, told_to_fetch=download)


def _of_family(kind: type[AnyFolder], *, sdxl: bool) -> type[AnyFolder]:
    """The kind of folder of a model's family; other networks lie in folders of one kind."""
    return cast("type[AnyFolder]", SDXLFolder) if sdxl and kind is ModelFolder else kind


def _cached(name: str, kind: type[AnyFolder], *, told_to_fetch: bool) -> AnyFolder:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        path = Path(snapshot_download(name, allow_patterns=_described(kind), local_files_only=True))
        kind = _of_family(kind, sdxl=is_sdxl(path))
        for part in kind.parts:
            kind(path).weight_files(part)
        return kind(path)
    except HFValidationError as error:
        raise WeightsError(
            f"{name}: is not a name that the Hugging Face hub has; write owner/model."
        ) from error
    except (OSError, WeightsError) as error:
        told = "" if told_to_fetch else f"add {argument('download')}, or "
        how = "HF_HUB_OFFLINE is set: unset it and " if constants.HF_HUB_OFFLINE else ""
        includes = " ".join(f"--include '{pattern}'" for pattern in [*_described(kind), *_weights(kind)])
        raise WeightsError(
            f"{name}: these weights are not on this machine; {how}{told}fetch them with "
            f"`hf download {name} {includes}`, about {kind.gigabytes:g} GB for {kind.wanted}, "
            f"kept in {constants.HF_HUB_CACHE}."
        ) from error


def _fetched_or_cached(name: str, kind: type[AnyFolder]) -> AnyFolder:
    """Fetch a model; where that fails for the network's sake, use what an earlier run fetched."""
    try:
        return _fetched(name, kind)
    except _unreached() as error:
        said = str(error).splitlines()
        reason = said[0][:200].rstrip(".") if said else type(error).__name__
        # A network that asks for a sign-in first answers with a page of its own.
        if isinstance(error, json.JSONDecodeError):
            reason = "the answer is not the hub's; does this network ask you to sign in?"
        with suppress(WeightsError):
            found = _cached(name, kind, told_to_fetch=True)
            logger.warning(
                "%s: the Hugging Face hub cannot be reached (%s); the copy on this machine is used.",
                name,
                reason,
            )
            return found
        raise WeightsError(
            f"{name}: cannot be fetched from the Hugging Face hub ({reason}); try again, or give "
            f"the path of {kind.wanted}."
        ) from error


def _unreached() -> tuple[type[Exception], ...]:
    """What is raised where the hub cannot be reached, or does not answer as it should."""
    from huggingface_hub import errors

    # The HTTP client's own errors (no connection, no answer in time) share a base with the hub's: releases of the
    # hub's library differ in which client they use.
    client = errors.HfHubHTTPError.__bases__[0]
    return (cast("type[Exception]", client), errors.HfHubHTTPError, json.JSONDecodeError, OSError)


def _fetched(name: str, kind: type[AnyFolder]) -> AnyFolder:
    """Fetch what describes the model, see whether it can be used, and only then fetch its weights."""
    from huggingface_hub import HfApi, snapshot_download

    with _explained(name):
        # Not `list_repo_files`, which asks six times in half a minute before it gives up.
        files = [file.rfilename for file in HfApi().model_info(name, timeout=PATIENCE).siblings or ()]
        kind = _of_family(kind, sdxl={f"{SECOND}/config.json", "unet/config.json"} <= set(files))
        weights = _chosen(name, kind, files)
        described = Path(snapshot_download(name, allow_patterns=_described(kind)))
    kind(described).check_kind()
    with _explained(name):
        return kind(Path(snapshot_download(name, allow_patterns=[*_described(kind), *weights])))


def _chosen(name: str, kind: type[ModelFolder], files: list[str]) -> list[str]:
    """The files of weights to fetch: for each part the plain ones, else those in half precision, else any."""
    chosen: list[str] = []
    for part, (_, stem) in kind.parts.items():
        stem = f"{part}/{stem}".lstrip("/")
        own = [
            f
            for f in files
            if re.fullmatch(rf"{re.escape(stem)}[-.].*(safetensors|\.index(\.\w+)?\.json)", f)
        ]
        own += [f for f in files if f == f"{stem}.safetensors"]
        if not own:
            raise WeightsError(f"{name}: {_lacking(files, stem, kind)}")
        variants = {_variant(file, stem) for file in own}
        best = next((v for v in ("", "fp16", "bf16") if v in variants), min(variants))
        chosen += [file for file in own if _variant(file, stem) == best]
    return sorted(chosen)


def _variant(file: str, stem: str) -> str:
    """`fp16` of `stem.fp16.safetensors`, `stem.fp16-00001-of-2.safetensors` and `stem.safetensors.index.fp16.json`."""
    rest = file.removeprefix(stem)
    found = re.fullmatch(
        r"(?:\.(\w+))?(?:-\d+-of-\d+)?(?:\.(\w+))?\.safetensors|\.safetensors\.index(?:\.(\w+))?\.json", rest
    )
    return next((group for group in found.groups() if group), "") if found else rest


def _lacking(files: list[str], stem: str, kind: type[ModelFolder]) -> str:
    if single := [file for file in files if "/" not in file and file.endswith(".safetensors")]:
        return (
            f"holds no folder in diffusers' layout but single files ({', '.join(single[:3])}); fetch one with "
            "`hf download`, and give its path."
        )
    if any(file.endswith((".bin", ".ckpt", ".pt", ".pth")) for file in files):
        return (
            "holds only pickled weights, which can run code when loaded; use a copy with safetensors files."
        )
    return f"has no {stem}.safetensors; give {kind.wanted}."


def _described(kind: type[ModelFolder]) -> list[str]:
    words = [f"{folder}/*.{end}" for folder in kind.tokenizers for end in ("json", "txt")]
    shared = ["model_index.json", "scheduler/*.json", *words]
    return [
        *(shared if len(kind.parts) > 1 else ()),
        *(f"{part}/config.json".lstrip("/") for part in kind.parts),
    ]


def _weights(kind: type[ModelFolder]) -> list[str]:
    stems = [f"{part}/{stem}".lstrip("/") for part, (_, stem) in kind.parts.items()]
    return [
        f"{stem}{end}"
        for stem in stems
        for end in (".safetensors", "-*.safetensors", ".safetensors.index.json")
    ]


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """The hub's own reasons, and what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise WeightsError(
            f"{name}: is shared only with those who accept its terms; accept them on its page of the hub, sign in with "
            "`hf auth login`, and try again."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            f"{name}: the Hugging Face hub has no such model, or it is private; check the name, or sign in with "
            "`hf auth login`."
        ) from error
    except errors.HFValidationError as error:
        raise WeightsError(
            f"{name}: is not a name that the Hugging Face hub has; write owner/model."
        ) from error


def forbid_remote_code() -> None:
    """Tell diffusers never to run code that comes with a model; must precede its import."""
    os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] = "1"
