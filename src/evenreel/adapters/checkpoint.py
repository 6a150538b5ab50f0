"""An adapter in one safetensors file: weights, settings, the model it was made for, and the licence it comes under."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from evenreel.adapters.adapter import Adapter
from evenreel.adapters.lora import Lora
from evenreel.adapters.prompt_tokens import PromptTokens
from evenreel.adapters.settings import AdapterSettings, LoraSettings, PromptTokenSettings
from evenreel.adapters.window import Window
from evenreel.backbones import safetensors_file
from evenreel.backbones.recognise import recognise
from evenreel.backbones.weights import content_fingerprint
from evenreel.errors import EvenreelError, SettingsError, WeightsError, argument
from evenreel.files import write_atomically

FORMAT = 2
"""What is written. Files of format 1 have a checksum of their weights alone."""
_KEY = "evenreel.adapter"
_LORA, _TOKENS = "lora.", "tokens."


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What an adapter file says of itself."""

    base: str
    """Fingerprint of the model it was made for: that of its noise predictor, or of the whole model."""
    base_name: str = ""
    """What that model was loaded by."""
    vision: str | None = None
    """Fingerprint of the CLIP whose vision tower it looks through; None where it looks at nothing."""
    vision_name: str = ""
    """What that is called."""
    licence: str
    """One line: under which licence the weights come."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else should be known: data, command, steps, seed; plain JSON."""

    def __post_init__(self) -> None:
        if not self.licence.strip() or "\n" in self.licence:
            raise SettingsError("the licence must be one line that is not empty, such as CC-BY-4.0.")


def save(adapter: Adapter, path: str | Path, origin: Origin) -> None:
    """Write an adapter; `path` is at every moment what it was or the whole new file. Raises: OutputError."""
    tensors = _tensors_of(adapter)
    record = {
        "format": FORMAT,
        "settings": _plain(adapter.settings),
        "origin": dataclasses.asdict(origin),
    }
    record["sha256"] = _digest(tensors, record)
    write_tensors(Path(path), tensors, {_KEY: json.dumps(record, sort_keys=True), "licence": origin.licence})


def load(
    path: str | Path,
    *,
    base: str | Iterable[str] | None,
    vision: str | Iterable[str] | None = None,
    other_base: bool = False,
) -> tuple[Adapter, Origin]:
    """Read an adapter, on the CPU, and check all of it.

    `base` are the hashes by which the model is known that it is to be used with (None: not known yet), `vision` those
    of the CLIP; `other_base` allows it to have been made for others. Raises: WeightsError.
    """
    path = Path(path)
    record, tensors, metadata = _read(path)
    with _explained(path):
        settings = _settings_of(record["settings"])
        origin = _origin_of(record["origin"])
        if record["sha256"] != _digest(tensors, record) or metadata.get("licence") != origin.licence:
            raise WeightsError("it differs from its checksum; fetch the adapter again.")
        adapter = _adapter_of(settings, tensors)
    if not all(bool(torch.isfinite(tensor.float()).all()) for tensor in tensors.values()):
        raise WeightsError(f"{path}: contains NaN or infinite weights; fetch the adapter again.")
    if base is not None and not other_base and not _is_among(origin.base, base):
        raise WeightsError(
            f"{path}: was made for model {origin.base_name or origin.base[:12]}, and this one is another; "
            f"use that model, or set {argument('adapter_other_base')}."
        )
    seen_by = origin.vision or "none"
    if adapter.needs_frames and vision is not None and not other_base and not _is_among(seen_by, vision):
        raise WeightsError(
            f"{path}: looks through the vision tower of the CLIP {origin.vision_name} ({seen_by[:12]}), and this one "
            f"is another; name that one as {argument('adapter_clip')}, or set {argument('adapter_other_base')}."
        )
    return adapter, origin


def _is_among(wanted: str, known: str | Iterable[str]) -> bool:
    return wanted in ((known,) if isinstance(known, str) else known)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Save tensors aside, flush them to disk, and only then give them their name. Raises: OutputError."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, _ordered(safetensors.save(plain, metadata)))


def _ordered(content: bytes) -> bytes:
    """A safetensors file whose metadata stand in order: the library shuffles them, and equal files should be equal."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the numbers after it begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Read tensors and metadata of a file that is whole. Raises: WeightsError."""
    header = safetensors_file.read_header(path)
    return safetensors_file.load(path, header.tensors), header.metadata


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], Mapping[str, str]]:
    header = safetensors_file.read_header(path)
    metadata = header.metadata
    if _KEY not in metadata:
        found = recognise(header)
        advice = (
            f"give it as {argument('lora')}"
            if found.kind == "lora"
            else "train one with `evenreel train adapter`"
        )
        raise WeightsError(f"{path}: is not an adapter of evenreel but {found.said}; {advice}.")
    try:
        record = json.loads(metadata[_KEY])
        version = record["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path}: its description is damaged; fetch the adapter again.") from error
    if isinstance(version, bool) or version not in (1, FORMAT):
        raise WeightsError(
            f"{path}: has format {str(version)[:20]}, this evenreel reads {FORMAT}; install a newer evenreel."
        )
    header.check_floats()
    return record, safetensors_file.load(path), metadata


@contextmanager
def _explained(path: Path) -> Generator[None]:
    """Turn whatever a damaged description causes into a WeightsError about the file."""
    try:
        yield
    except EvenreelError as error:
        raise WeightsError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise WeightsError(
            f"{path}: its description is damaged ({reason}); fetch the adapter again."
        ) from error


def _tensors_of(adapter: Adapter) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    if adapter.lora is not None:
        tensors |= {_LORA + name: tensor for name, tensor in adapter.lora.tensors().items()}
    if adapter.tokens is not None:
        tensors |= {_TOKENS + name: tensor for name, tensor in adapter.tokens.state_dict().items()}
    return tensors


def _adapter_of(settings: AdapterSettings, tensors: Mapping[str, Tensor]) -> Adapter:
    parts = {
        prefix: {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        for prefix in (_LORA, _TOKENS)
    }
    if len(parts[_LORA]) + len(parts[_TOKENS]) != len(tensors):
        raise WeightsError("it holds weights that belong to no adapter.")
    if bool(parts[_LORA]) != (settings.lora is not None) or bool(parts[_TOKENS]) != (
        settings.tokens is not None
    ):
        raise WeightsError("its weights and its settings do not belong together.")
    lora = tokens = None
    if settings.lora is not None:
        lora = lora_of(parts[_LORA], settings.lora)
    if settings.tokens is not None:
        width, seen = _widths(parts[_TOKENS])
        tokens = PromptTokens(settings.tokens, width, seen)
        tokens.load(parts[_TOKENS])
    return Adapter(settings, lora, tokens)


def lora_of(tensors: Mapping[str, Tensor], settings: LoraSettings) -> Lora:
    """Return a LoRA from its tensors, named as in `Lora.tensors`. Raises: WeightsError."""
    first, second = ".lora_A.weight", ".lora_B.weight"
    paths = [name.removesuffix(first) for name in tensors if name.endswith(first)]
    shapes = {
        path: (tensors[path + second].shape[0], tensors[path + first].shape[1])
        for path in sorted(paths)
        if path + second in tensors
    }
    lora = Lora(settings, shapes)
    lora.load(tensors)
    return lora


def _widths(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Of prompts, and of the vision tower."""
    width = tensors["shared"].shape[1]
    weight = tensors.get("projection.weight")
    return width, 1 if weight is None else weight.shape[1]


def _plain(settings: AdapterSettings) -> dict[str, Any]:
    values = dataclasses.asdict(settings)
    for name in ("training_window", "inference_window"):
        values[name] = [getattr(settings, name).start, getattr(settings, name).end]
    return values


def _settings_of(values: Mapping[str, Any]) -> AdapterSettings:
    lora, tokens = values["lora"], values["tokens"]
    if lora is not None:
        scope = lora["scope"]
        lora = {**lora, "scope": scope if isinstance(scope, str) else tuple(map(str, scope))}
    return AdapterSettings(
        lora=None if lora is None else _typed(LoraSettings, lora, rank=int, alpha=float),
        tokens=None
        if tokens is None
        else _typed(PromptTokenSettings, tokens, shared=int, select=str, weight=float),
        training_window=Window(*map(_number, values["training_window"])),
        inference_window=Window(*map(_number, values["inference_window"])),
        scale=_number(values["scale"]),
        in_inversion=_flag(values.get("in_inversion", True)),  # earlier files do not say
    )


def _origin_of(values: Mapping[str, Any]) -> Origin:
    """What a file says of itself. Raises: TypeError for entries of another type, or that nobody knows."""
    for name, value in values.items():
        kind = {"notes": dict, "vision": str | None}.get(name, str)
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {str(value)[:40]}")
    return Origin(**values)


def _number(value: object) -> float:
    """A number as JSON has it. Raises: TypeError for anything else, and for one that no setting can be."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise TypeError(f"{str(value)[:40]} is not a number that can be")
    return float(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"in_inversion is {value!r}")
    return value


def _typed(kind: Callable[..., Any], values: Mapping[str, Any], **kinds: type) -> Any:
    for name, wanted in kinds.items():
        if type(values[name]) is not wanted:
            raise TypeError(f"{name} is {values[name]!r}")
    return kind(**values)


def _digest(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> str:
    """Hash of names, sizes, types and numbers, and from format 2 on of all that the file says of itself: flipped bits
    do not stop safetensors."""
    of_tensors = content_fingerprint(tensors)
    if record.get("format") == 1:
        return of_tensors
    said = json.dumps({name: value for name, value in record.items() if name != "sha256"}, sort_keys=True)
    return hashlib.sha256(f"{of_tensors}\n{said}\n".encode()).hexdigest()
