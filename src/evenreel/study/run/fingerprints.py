"""Hashes of what items depend on besides their own options: weights, files, and the defaults of what makes edits."""

import hashlib
import json
from typing import Any

from evenreel import registry
from evenreel.backbones import mini
from evenreel.backbones.control import load_control
from evenreel.backbones.map_models import MAKERS
from evenreel.backbones.safetensors_file import sha256
from evenreel.hosts.base import create_host
from evenreel.settings import EditSettings, GenerateSettings, RunSettings
from evenreel.study.run import footage
from evenreel.study.run.actions import Context
from evenreel.study.settings import StudySettings
from evenreel.workflows.editing.records import record


def fingerprints(settings: StudySettings, context: Context) -> dict[str, str]:
    """Return, by name, `model`, `clip`, `judge`, `segmenter`, `control`; `edit`, `generate`, `host NAME`, `inversion
    NAME` (defaults); `file PATH`.

    Raises: SettingsError for a file that is not there.
    """
    # What is off is left out, so that an option which is off by default makes no old item another one.
    backbone = context.backbone
    defaults = _told(EditSettings(prompt="-"))
    del defaults["keep"]  # off in every item whose condition does not name it
    usual = {**defaults, "guidance": backbone.guidance}
    prints = {
        # of the weights alone: the configurations of the packaged model are known by its checksums
        "model": backbone.weights_fingerprint,
        "edit": _hash(usual),
        "generate": _hash({**_told(GenerateSettings(prompt="-")), "guidance": backbone.guidance}),
    }
    prints |= _of_world(context) if settings.footage is None else _of_clips(settings, context)
    for name in dict.fromkeys((*settings.hosts, "frame")):
        prints[f"host {name}"] = _hash(record.plain(create_host(name)))
    for name in registry.names(registry.INVERSIONS):
        prints[f"inversion {name}"] = _hash(record.plain(registry.find(registry.INVERSIONS, name)()))
    for file in settings.files:
        prints[f"file {file}"] = sha256(settings.path(file))
    return prints


def _of_world(context: Context) -> dict[str, str]:
    found = {
        "judge": sha256(mini.FOLDER / "judge.safetensors"),
        "segmenter": sha256(mini.FOLDER / "segmenter.safetensors"),
    }
    if context.clip is not None:
        found["clip"] = context.clip.weights_fingerprint
    if mini.CONTROL.is_dir():
        found["control"] = sha256(mini.CONTROL / "diffusion_pytorch_model.safetensors")
    return found


def _of_clips(settings: StudySettings, context: Context) -> dict[str, str]:
    """Clips from cameras, what they are measured with, and what makes maps of them."""
    towers = {name: getattr(context.towers, name) for name in ("clip", "lpips", "dino", "inception")}
    found = {name: tower.fingerprint for name, tower in towers.items() if tower is not None}
    for kind, told in settings.controls.items():
        found[f"control {kind}"] = load_control(told, context.backbone).fingerprint
    models = context.looking.fingerprints()
    found |= {f"maps {kind}": models[name] for kind, name in MAKERS.items() if name in models}
    return found | footage.fingerprints(context.filmed)


def _told(settings: RunSettings) -> dict[str, Any]:
    return {name: value for name, value in settings.to_json().items() if value is not None}


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
