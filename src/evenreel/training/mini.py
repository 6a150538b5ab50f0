"""The embedded model, made from nothing: every part in its order, resumable, then packed as a diffusers folder."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from evenreel.errors import OutputError, SettingsError
from evenreel.metrics.judge import Judge
from evenreel.training import clip, judge, tokenizer, unet, vae
from evenreel.training.loop import LoopSettings, Training, recorded_step, write_aside
from evenreel.training.pool import Pool

POOL_SIZE = 30_000
SETTINGS = {
    "vae": LoopSettings(steps=3000, learning_rate=2.5e-3, weight_decay=0.0),
    "text": LoopSettings(steps=2200, warmup=300),
    "vision": LoopSettings(steps=9500, learning_rate=2e-3, warmup=300),
    "decoder": LoopSettings(steps=800, learning_rate=1e-3, warmup=50, weight_decay=0.0, average=0.995),
    "judge": LoopSettings(steps=1500),
    "unet": LoopSettings(steps=2500, average=0.998),
}
"""The parts, in the order in which they need each other."""

Progress = Callable[[str, int, int, dict[str, float]], None]
"""Told (part, steps done, steps in all, figures) after every step."""


class MiniTraining:
    """A run in a folder: whatever is finished there is used, whatever was begun goes on."""

    def __init__(self, folder: Path, progress: Progress = lambda *_: None) -> None:
        self.folder, self.progress = folder, progress
        self.pool = Pool(folder / "pool.npy", POOL_SIZE)
        self.tokenizer: CLIPTokenizer = tokenizer.build()

    def _training(self, part: str, model: torch.nn.Module) -> Training:
        return Training(part, model, SETTINGS[part], self.folder)

    def _finished(self, part: str, model: torch.nn.Module) -> torch.nn.Module:
        training = self._training(part, model)
        if training.step < SETTINGS[part].steps:
            raise SettingsError(
                f"{self.folder}: {part} is trained for {training.step} of {SETTINGS[part].steps} steps; train it first."
            )
        return training.use_average().requires_grad_(False)

    def _build(self, part: str) -> torch.nn.Module:
        torch.manual_seed(SETTINGS[part].seed)
        match part:
            case "vae":
                return vae.build()
            case "text":
                return clip.Trainee(clip.build(self.tokenizer, clip.WIDTH))
            case "vision":
                model = clip.build(self.tokenizer, clip.VISION_WIDTH)
                return clip.Trainee(clip.with_text_of(model, self._clip("text")))
            case "decoder":
                model = self.encoder()
                model.requires_grad_(False)
                for half in (model.post_quant_conv, model.decoder):
                    half.requires_grad_(True)
                return model
            case "judge":
                return Judge()
            case "unet":
                model = unet.build(clip.WIDTH)
                # Plain attention: on a CPU the fused kernel's backward pass takes half as long again for so few tokens.
                model.set_attn_processor(AttnProcessor())
                return model
        raise SettingsError(f"no such part of the mini model: {part}; there are {', '.join(SETTINGS)}.")

    def encoder(self) -> AutoencoderKL:
        """The autoencoder whose latents everything else is trained on; its decoder has seen crops only."""
        model = self._finished("vae", self._build("vae"))
        assert isinstance(model, AutoencoderKL)
        model.register_to_config(scaling_factor=vae.scaling_factor(model, self.pool))
        return model

    def autoencoder(self) -> AutoencoderKL:
        """The finished autoencoder."""
        model = self._finished("decoder", self._build("decoder"))
        assert isinstance(model, AutoencoderKL)
        return model

    def latents(self) -> Tensor:
        """Scaled latents of pictures of the pool, encoded once."""
        return unet.encoded(self.pool, self.encoder(), self.folder / "latents.safetensors")

    def _clip(self, part: str) -> CLIPModel:
        trainee = self._finished(part, self._build(part))
        assert isinstance(trainee, clip.Trainee)
        return trainee.clip

    def text_encoder(self) -> CLIPTextModel:
        """The text tower by itself."""
        whole = self._clip("text")
        tower = CLIPTextModel(whole.config.text_config)
        weights = {name.removeprefix("text_model."): value for name, value in whole.state_dict().items()}
        tower.load_state_dict(
            {name: weights[name.removeprefix("text_model.")] for name in tower.state_dict()}
        )
        return tower.eval().requires_grad_(False)

    def train(self, part: str) -> Iterator[tuple[int, dict[str, float]]]:
        """Train one part to its end; yields as `Training.run` does."""
        model = self._build(part)
        match part:
            case "vae":
                loss = vae.loss(model, self.pool)
            case "text" | "vision":
                loss = clip.loss(model, self.tokenizer, self.pool)
            case "judge":
                loss = judge.loss(model, self.pool)
            case "decoder":
                loss = vae.decoder_loss(model, self.pool, self.latents())
            case _:
                loss = unet.loss(model, self.latents(), self.tokenizer, self.text_encoder())
        yield from self._training(part, model).run(loss)

    def run(self, parts: Sequence[str]) -> None:
        """Train parts, one after the other."""
        for part in parts:
            for step, figures in self.train(part):
                self.progress(part, step, SETTINGS[part].steps, figures)

    @property
    def complete(self) -> bool:
        """Whether every part has had all its steps."""
        return all(
            (path := self.folder / f"{part}.state.safetensors").exists()
            and recorded_step(path) >= settings.steps
            for part, settings in SETTINGS.items()
        )

    def pack(self, out: Path) -> None:
        """Write the finished model as a diffusers folder in float16, with the CLIP and the judge beside it."""
        network = self._finished("unet", self._build("unet"))
        marks = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        scheduler = DDIMScheduler(**marks, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
        parts = {
            "vae": self.autoencoder(),
            "unet": network,
            "text_encoder": self.text_encoder(),
            "clip": self._clip("vision"),
        }
        for name, model in parts.items():
            model.half().save_pretrained(out / name, safe_serialization=True)
        self.tokenizer.save_pretrained(out / "tokenizer")
        scheduler.save_pretrained(out / "scheduler")
        verdicts = self._finished("judge", self._build("judge"))
        write_aside(
            {name: value.half() for name, value in verdicts.state_dict().items()}, out / "judge.safetensors"
        )
        (out / "model_index.json").write_text(json.dumps(_INDEX, indent=2) + "\n")
        record = {}
        for part, settings in SETTINGS.items():
            training = self._training(part, self._build(part))
            record[part] = {**asdict(settings), "seconds": round(training.seconds)}
            if training.stretched:
                record[part]["stretched"] = training.stretched
        made = {"pool": POOL_SIZE, "torch": torch.__version__, "parts": record}
        (out / "training.json").write_text(json.dumps(made, indent=2) + "\n")
        weights = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.safetensors"))
        sums = [f"{hashlib.sha256((out / name).read_bytes()).hexdigest()}  {name}\n" for name in weights]
        (out / "SHA256SUMS").write_text("".join(sums))


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


def train_mini(
    folder: Path, parts: Sequence[str] = tuple(SETTINGS), progress: Progress = lambda *_: None
) -> None:
    """Train parts of the mini model in `folder`, going on where a run was cut; the whole is packed in `folder/model`.

    Raises OutputError for a folder that cannot be made, SettingsError for an unknown part, or one whose inputs are not
    trained yet; FloatingPointError when a loss is
    not finite (the last good state is kept).
    """
    if unknown := [part for part in parts if part not in SETTINGS]:
        raise SettingsError(
            f"no such part of the mini model: {', '.join(unknown)}; there are {', '.join(SETTINGS)}."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error.strerror}); choose another --out.") from error
    training = MiniTraining(folder, progress)
    training.run([part for part in SETTINGS if part in parts])
    if training.complete:
        training.pack(folder / "model")
