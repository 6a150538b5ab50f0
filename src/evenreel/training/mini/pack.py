"""A finished mini model as a diffusers folder in float16, with the CLIP and the judge beside it."""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from transformers import CLIPTokenizer

from evenreel.files import write_atomically
from evenreel.motion.folder import save_motion
from evenreel.motion.modules import MotionModules
from evenreel.training.mini.parts import MiniTraining
from evenreel.training.mini.recipe import CONTROLS
from evenreel.training.states import recorded_step, write_tensors

_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def pack(training: MiniTraining, out: Path) -> Path:
    """Write the model; what was not trained here is copied from the model that the training started from."""
    start = training.start
    if start is not None:
        kept = shutil.ignore_patterns("README.md", "report.json", "SHA256SUMS")
        shutil.copytree(start.folder, out, dirs_exist_ok=True, ignore=kept)

    def trained(*parts: str) -> bool:
        return start is None or any(recorded_step(training.folder, part) for part in parts)

    if trained("unet"):
        _save(training.finished("unet"), out / "unet")
    if trained("vae", "decoder"):
        _save(training.finished("decoder"), out / "vae")
    if trained("text"):
        _save(training.text_encoder(), out / "text_encoder")
    if trained("vision"):
        _save(training.clip("vision"), out / "clip")
    if trained("judge"):
        verdicts = training.finished("judge")
        tensors = {name: value.half() for name, value in verdicts.state_dict().items()}
        write_tensors(tensors, out / "judge.safetensors")
    if recorded_step(training.folder, "motion"):
        modules = training.finished("motion")
        assert isinstance(modules, MotionModules)
        save_motion(modules, out.with_name("motion"), torch.float16)
    for part in CONTROLS:
        if recorded_step(training.folder, part):
            _save(training.finished(part), out.with_name(part))
    if start is None:
        _save_tokenizer(training.tokenizer, out / "tokenizer")
        marks = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        scheduler = DDIMScheduler(**marks, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
        scheduler.save_pretrained(out / "scheduler")
    write_atomically(out / "model_index.json", json.dumps(_INDEX, indent=2) + "\n")
    write_atomically(out / "training.json", json.dumps(_made(training), indent=2) + "\n")
    write_sums(out)
    return out


def write_sums(folder: Path) -> None:
    """List the checksums of all weights and configurations in SHA256SUMS; what tells how they were made is not."""
    files = (path for end in ("*.safetensors", "*/*.json") for path in folder.rglob(end))
    names = sorted({path.relative_to(folder).as_posix() for path in files})
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    write_atomically(folder / "SHA256SUMS", "".join(sums))


def _save(model: Any, folder: Path) -> None:
    model.half().save_pretrained(folder, safe_serialization=True)


def _save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    tokenizer.save_pretrained(folder)


def _made(training: MiniTraining) -> dict[str, Any]:
    """How each part was trained; of parts that were not trained here, what the start's own record says."""
    start, parts = training.start, {}
    if start is not None and (start.folder / "training.json").exists():
        parts = json.loads((start.folder / "training.json").read_text(encoding="utf-8"))["parts"]
    for name, recipe in training.recipe.parts.items():
        if not recorded_step(training.folder, name):
            continue
        done = training.training(name)
        parts[name] = {
            **asdict(recipe.loop),
            "batch": recipe.batch,
            "seed": recipe.seed,
            "steps": done.step,
            "seconds": round(done.seconds),
            "device": done.device.type,
            "choice": None if done.choice is None else done.choice.described(),
            "lengthened": done.lengthened,
            "from": None if start is None or not start.holds(name) else start.folder.name,
        }
    return {
        "pool": training.recipe.pool,
        "scenes": asdict(training.recipe.scenes),
        "torch": torch.__version__,
        "parts": parts,
    }
