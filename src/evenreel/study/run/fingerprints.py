"""Hashes of what items depend on besides their own options: weights, files, and the defaults of what makes edits."""

import hashlib
import json
from typing import Any

from evenreel import registry
from evenreel.backbones import Backbone, mini
from evenreel.backbones.clip import ClipModel
from evenreel.backbones.safetensors_file import sha256
from evenreel.hosts.base import create_host
from evenreel.settings import EditSettings, GenerateSettings, RunSettings
from evenreel.study.settings import StudySettings
from evenreel.workflows.editing.records import record


def fingerprints(settings: StudySettings, backbone: Backbone, clip: ClipModel) -> dict[str, str]:
    """Return, by name, `model`, `clip`, `judge`, `segmenter`, `control`; `edit`, `generate`, `host NAME`, `inversion
    NAME` (defaults); `file PATH`.

    Raises: SettingsError for a file that is not there.
    """
    # What is off is left out, so that an option which is off by default makes no old item another one.
    defaults = _told(EditSettings(prompt="-"))
    del defaults["keep"]  # off in every item whose condition does not name it
    usual = {**defaults, "guidance": backbone.guidance}
    prints = {
        # of the weights alone: the configurations of the packaged model are known by its checksums
        "model": backbone.weights_fingerprint,
        "clip": clip.weights_fingerprint,
        "judge": sha256(mini.FOLDER / "judge.safetensors"),
        "segmenter": sha256(mini.FOLDER / "segmenter.safetensors"),
        "edit": _hash(usual),
        "generate": _hash({**_told(GenerateSettings(prompt="-")), "guidance": backbone.guidance}),
    }
    if mini.CONTROL.is_dir():
        prints["control"] = sha256(mini.CONTROL / "diffusion_pytorch_model.safetensors")
    for name in dict.fromkeys((*settings.hosts, "frame")):
        prints[f"host {name}"] = _hash(record.plain(create_host(name)))
    for name in registry.names(registry.INVERSIONS):
        prints[f"inversion {name}"] = _hash(record.plain(registry.find(registry.INVERSIONS, name)()))
    logs = (settings.training_log,) if settings.training_log else ()
    for file in (*settings.adapters, *logs):
        prints[f"file {file}"] = sha256(settings.path(file))
    return prints


def _told(settings: RunSettings) -> dict[str, Any]:
    return {name: value for name, value in settings.to_json().items() if value is not None}


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
