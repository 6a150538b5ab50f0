"""What a file of weights is, whoever made it; and adapters to and from the LoRA files of other tools."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenreel.adapters import checkpoint
from evenreel.adapters.adapter import Adapter
from evenreel.adapters.checkpoint import Origin
from evenreel.adapters.lora_file import export_lora, import_lora
from evenreel.adapters.lora_names import slot_of
from evenreel.adapters.settings import AdapterSettings
from evenreel.adapters.window import Window
from evenreel.backbones import load_backbone
from evenreel.backbones.embeddings import read_vectors
from evenreel.backbones.recognise import FAMILIES, recognise, used_as
from evenreel.backbones.safetensors_file import Header, read_header, sha256
from evenreel.errors import SettingsError, WeightsError, argument
from evenreel.files import expanded

_LONGEST = 200
"""Characters of one entry of metadata that are shown."""


@dataclass(frozen=True)
class FileDescription:
    """What a file says of itself, and what its tensors tell."""

    path: Path
    said: str
    """What it is, in words."""
    used_as: str | None
    """The setting that takes it; None where nothing does."""
    facts: dict[str, Any]
    """Figures by name: tensors, numbers, types, layers, ranks, hash."""
    metadata: dict[str, str]
    """What the file holds beside its tensors, long entries cut."""


def describe_file(path: str | Path) -> FileDescription:
    """Say of any safetensors file what it is. Of large files only header and hash are read. Raises: WeightsError."""
    path = expanded(path)
    path = _inside(path) if path.is_dir() else path
    header = read_header(path)
    found = recognise(header)
    facts: dict[str, Any] = {
        "family": FAMILIES[found.family] if found.family else "not told by its shapes",
        "tensors": len(header.tensors),
        "numbers": header.numbers(),
        "types": ", ".join(
            f"{n} {kind}" for kind, n in Counter(e.dtype for e in header.tensors.values()).items()
        ),
    }
    if found.kind == "embedding":
        vectors = read_vectors(header)
        facts["vectors"] = f"{len(vectors[0])} of {' and '.join(str(v.shape[1]) for v in vectors)} features"
    if found.kind == "lora":
        facts |= _lora_facts(header)
    if found.kind == "adapter":
        _, origin = checkpoint.load(path, base=None)
        facts |= {
            "made for model": origin.base_name or origin.base[:12],
            "looks through CLIP": origin.vision_name or origin.vision or "none",
            "licence": origin.licence,
        }
    facts["sha256"] = sha256(path)
    shown = {name: value[:_LONGEST] for name, value in header.metadata.items() if found.kind != "adapter"}
    return FileDescription(path, found.said, used_as(found), facts, shown)


def _inside(folder: Path) -> Path:
    """The one file of weights in a folder. Raises: WeightsError where there are several, or none."""
    if (folder / "model_index.json").is_file():
        raise WeightsError(
            f"{folder}: is the folder of a whole model; give it as {argument('model')}, or name one file in it."
        )
    held = sorted(folder.glob("*.safetensors"))
    if len(held) != 1:
        raise WeightsError(
            f"{folder}: is a folder with {len(held) or 'no'} safetensors files; name the file to be described."
        )
    return held[0]


def export_adapter(path: str | Path, output: str | Path) -> Path:
    """Write the LoRA of an adapter as diffusers, webui and others read it. Raises: WeightsError, OutputError."""
    adapter, _ = checkpoint.load(path, base=None)
    if adapter.lora is None:
        raise WeightsError(
            f"{path}: has prompt tokens only, which other tools cannot read; there is no LoRA in it."
        )
    return export_lora(adapter.lora, output)


def import_adapter(path: str | Path, output: str | Path, *, model: str, licence: str) -> Path:
    """Make an adapter for a model of a LoRA of its attentions, at work at all noise levels.

    Raises: WeightsError, SettingsError, OutputError.
    """
    lora = import_lora(path)
    if not licence.strip():
        raise SettingsError(f"{argument('licence')} is empty; say under which licence the LoRA comes.")
    backbone = load_backbone(model, device="cpu")
    settings = AdapterSettings(
        lora=lora.settings,
        tokens=None,
        inference_window=Window(0.0, 1.0),
        training_window=Window(0.0, 1.0),
        scale=1.0,
    )
    adapter = Adapter(settings, lora, None)
    adapter.check_fits(backbone)
    origin = Origin(
        base=backbone.unet_fingerprint,
        base_name=backbone.name,
        licence=licence,
        notes={"imported from": Path(path).name},
    )
    checkpoint.save(adapter, output, origin)
    return Path(output)


def _lora_facts(header: Header) -> dict[str, Any]:
    layers: dict[str, set[str]] = {"UNet": set(), "text encoder": set()}
    ranks: Counter[int] = Counter()
    strange = 0
    for name, entry in header.tensors.items():
        slot = slot_of(name)
        if slot is None:
            strange += 1
            continue
        is_text = any(mark in name for mark in ("lora_te", "text_encoder", "text_model"))
        layers["text encoder" if is_text else "UNet"].add(slot.layer)
        if slot.kind in ("down", "hada_w1_b", "lokr_w2_b") and entry.shape:
            ranks[entry.shape[0]] += 1
    told = {f"layers of the {part}": len(found) for part, found in layers.items() if found}
    return {
        **told,
        "rank": ", ".join(str(rank) for rank in sorted(ranks)) or "none",
        **({"tensors that are not understood": strange} if strange else {}),
    }
