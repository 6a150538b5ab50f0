"""The parts of the embedded model: how each is built, trained, and taken from a finished one."""

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from evenreel.errors import ResourceError, SettingsError
from evenreel.metrics.judge import Judge
from evenreel.motion.modules import MotionModules
from evenreel.training.control.trainee import ControlTrainee
from evenreel.training.loop import Figures, Training
from evenreel.training.mini import clip, control, judge, tokenizer, unet, vae
from evenreel.training.mini.joint import DrawnJoint, JointTrainee
from evenreel.training.mini.latents import SceneLatents
from evenreel.training.mini.motion import DrawnClips
from evenreel.training.mini.pictures import Pool
from evenreel.training.mini.recipe import MiniRecipe
from evenreel.training.mini.scene_data import SceneData
from evenreel.training.mini.start import BESIDE, StartFolder
from evenreel.training.motion.trainee import MotionTrainee
from evenreel.training.processes import Processes
from evenreel.training.states import is_done, recorded_step
from evenreel.training.trainee import Draw, Trainee, autocast

Progress = Callable[[str, int, int | None, Figures], None]
"""Told (part, steps done, steps in all where that is known, figures) after every step."""


class MiniTraining:
    """A run in a folder: whatever is finished there is used, whatever was begun goes on."""

    def __init__(
        self,
        folder: Path,
        *,
        recipe: MiniRecipe | None = None,
        device: str = "auto",
        start: StartFolder | None = None,
        progress: Progress = lambda *_: None,
    ) -> None:
        """`start`: a finished model: parts begin with its weights, and those not trained here are taken from it.

        Raises: SettingsError for a device that is not there, WeightsError for a model of another layout.
        """
        self.folder, self.recipe, self.start, self.progress = folder, recipe or MiniRecipe(), start, progress
        self.processes = Processes(device)
        self.device = self.processes.device
        self.tokenizer: CLIPTokenizer = tokenizer.build()
        self._scenes: dict[SceneData, SceneLatents] = {}

    @property
    def pool(self) -> Pool:
        """Rendered pictures, made at first use."""
        return Pool(self.folder / "pool.npy", self.recipe.pool)

    def training(self, part: str) -> Training:
        """Return the training of a part, as far as it is."""
        recipe = self.recipe.parts[part]
        return Training(
            part,
            self._trainee(part),
            recipe.loop,
            self.folder,
            processes=self.processes,
            seed=recipe.seed,
        )

    def finished(self, part: str) -> nn.Module:
        """Return a trained part, or that of the model to start from. Raises: SettingsError when it is neither."""
        together = self.recipe.joint and part == "unet" and recorded_step(self.folder, "motion") > 0
        return self._finished(part, "motion" if together else part)

    def _finished(self, part: str, trained_as: str) -> nn.Module:
        """A part out of the training that it had, maybe together with another."""
        if recorded_step(self.folder, trained_as) == 0 and self.start is not None:
            return self._trained(part, self.start.load(part, self._built(part)))
        training = self.training(trained_as)
        if not training.done:
            raise SettingsError(
                f"{self.folder}: {part} is trained for {training.step} steps and not finished; train it first."
            )
        return self._trained(part, training.trained())

    def _trained(self, part: str, model: nn.Module) -> nn.Module:
        model = model.model if isinstance(model, (vae.VaeTrainee, vae.DecoderTrainee)) else model
        model = model.unet if isinstance(model, unet.UNetTrainee) else model
        if isinstance(model, MotionTrainee):
            model.detach()
            model = model.unet if part == "unet" else model.modules_trained
        model = model.net if isinstance(model, ControlTrainee) else model
        return model.to(self.device).eval().requires_grad_(False)

    def _built(self, part: str) -> nn.Module:
        """An untrained part."""
        torch.manual_seed(self.recipe.parts[part].seed)
        match part:
            case "vae":
                return vae.build()
            case "text":
                return clip.ClipTrainee(clip.build(self.tokenizer, clip.WIDTH))
            case "vision":
                model = clip.build(self.tokenizer, clip.VISION_WIDTH)
                return clip.ClipTrainee(clip.with_text_of(model, self.clip("text")))
            case "decoder":
                return self.encoder()
            case "judge":
                return Judge()
            case "unet":
                return unet.build(clip.WIDTH)
            case "motion":
                return MotionModules.for_unet(unet.build(clip.WIDTH))
            case _ if part in control.PARTS:
                return control.build(self._unet())
        raise SettingsError(
            f"no such part of the mini model: {part}; there are {', '.join(self.recipe.parts)}."
        )

    def _trainee(self, part: str) -> Trainee:
        model = self._built(part)
        if self.start is not None and self.start.holds(part):
            model = self.start.load(part, model)
        match part:
            case "vae":
                return vae.VaeTrainee(model)
            case "decoder":
                return vae.DecoderTrainee(model)
            case "judge":
                return judge.JudgeTrainee(model)
            case "unet":
                return unet.UNetTrainee(model)
            case "motion":
                assert isinstance(model, MotionModules)
                base = self._finished("unet", "unet")
                base.set_attn_processor(AttnProcessor() if self.device.type == "cpu" else AttnProcessor2_0())
                trainee = JointTrainee if self.recipe.joint else MotionTrainee
                return trainee(base, model, unet.scheduler().alphas_cumprod)
            case _ if part in control.PARTS:
                base = self._unet()
                for network in (base, model):
                    network.set_attn_processor(  # pyright: ignore[reportCallIssue]
                        AttnProcessor() if self.device.type == "cpu" else AttnProcessor2_0()
                    )
                return ControlTrainee(base, model, unet.scheduler().alphas_cumprod)
        assert isinstance(model, clip.ClipTrainee)
        return model

    def _unet(self) -> UNet2DConditionModel:
        model = self.finished("unet")
        assert isinstance(model, UNet2DConditionModel)
        return model

    def encoder(self) -> AutoencoderKL:
        """Return the autoencoder whose latents everything else is trained on; its decoder has seen crops only."""
        model = self.finished("vae")
        assert isinstance(model, AutoencoderKL)
        if self.start is None or recorded_step(self.folder, "vae"):
            model.register_to_config(scaling_factor=vae.scaling_factor(model, self.pool))
        return model

    def clip(self, part: str) -> CLIPModel:
        """Return the CLIP, once its towers are trained."""
        if self.start is not None and not recorded_step(self.folder, part):
            return self.start.clip().to(self.device)
        trainee = self.finished(part)
        assert isinstance(trainee, clip.ClipTrainee)
        return trainee.clip

    def text_encoder(self) -> CLIPTextModel:
        """Return the text tower by itself."""
        if self.start is not None and not recorded_step(self.folder, "text"):
            return self.start.text_encoder().to(self.device)
        return clip.text_tower(self.clip("text")).to(self.device)

    def scenes(self, data: SceneData) -> SceneLatents:
        """Return latents of rendered scenes: on a CPU all, made once and kept, on a GPU the first and what comes."""
        made = self._store(data).start()
        wanted = data.begin if self.device.type == "cuda" else data.count
        made.wait(wanted, lambda done, total: self.progress("render and encode scenes", done, total, {}))
        return made

    def _store(self, data: SceneData) -> SceneLatents:
        if data not in self._scenes:
            encoder = self.encoder().to(memory_format=torch.channels_last)  # twice as fast on a CPU
            factor = encoder.config.scaling_factor

            @torch.inference_mode()
            def encode(pictures: Tensor) -> Tensor:
                with autocast(self.device, self._fast):
                    inner = (pictures * 2 - 1).contiguous(memory_format=torch.channels_last)
                    return encoder.encode(inner).latent_dist.mean.float() * factor

            whole = self.device.type != "cuda"
            cached = self.folder / f"latents-{data.frames}.safetensors" if whole else None
            self._scenes[data] = SceneLatents(data, encode, self.device, cached)
        return self._scenes[data]

    def draw(self, part: str, module: nn.Module, *, following: SceneData | None = None) -> Draw:
        """Draw micro-batches of a part by number. `following`: what is rendered as soon as its own scenes are there."""
        recipe = self.recipe.parts[part]
        if following is None and part == "unet":
            following = self.recipe.clips
        after = self._store(following) if following is not None and self.device.type == "cuda" else None
        told = {"seed": recipe.seed, "batch": recipe.batch}
        match part:
            case "vae":
                return vae.drawn_crops(self.pool, self.device, **told)
            case "text" | "vision":
                return clip.drawn(self.tokenizer, self.pool, self.device, **told)
            case "judge":
                return judge.drawn(self.pool, self.device, **told)
            case "decoder":
                assert isinstance(module, vae.DecoderTrainee)
                # the pool's own pictures: samples of one frame are the same ones
                scenes = self.scenes(
                    dataclasses.replace(self.recipe.scenes, captions=1, frames=1, controls=False)
                )
                return vae.drawn_latents(module.model, self.pool, scenes, self.device, **told)
            case "motion":
                clips = DrawnClips(
                    self.scenes(self.recipe.clips), self.text_encoder(), dtype=self._fast, **told
                )
                clips.following = after
                return DrawnJoint(clips, self.recipe.parts["unet"].batch) if self.recipe.joint else clips
            case _ if part in control.PARTS:
                scenes = self.scenes(self.recipe.controlled)
                kinds = control.PARTS[part]
                return control.DrawnControls(scenes, self.text_encoder(), kinds, dtype=self._fast, **told)
        drawn = unet.Drawn(self.scenes(self.recipe.scenes), self.text_encoder(), dtype=self._fast, **told)
        drawn.following = after
        return drawn

    @property
    def _fast(self) -> str:
        """Number type of frozen encoders."""
        return "bfloat16" if self.device.type == "cuda" else "float32"

    def train(self, part: str) -> Iterator[tuple[int, Figures]]:
        """Train one part to its end; yields as `Training.run` does."""
        while True:
            training = self.training(part)
            if training.done:
                return
            begun = training.step
            try:
                for step, figures in training.run(self.draw(part, training.module)):
                    self.progress(f"train {part}", step, training.length, figures)
                    yield step, figures
                return
            except torch.OutOfMemoryError as error:
                if training.step > begun:
                    raise  # it fitted before: something else took the memory
                self._halve(part, error)

    def _halve(self, part: str, error: torch.OutOfMemoryError) -> None:
        """Go on with half as many samples in a micro-batch. Raises: ResourceError when there is no half."""
        recipe = self.recipe.parts[part]
        if recipe.batch < 2:
            raise ResourceError(f"{self.device} has too little memory to train {part} at all.") from error
        smaller = dataclasses.replace(recipe, batch=recipe.batch // 2)
        self.recipe = dataclasses.replace(self.recipe, parts={**self.recipe.parts, part: smaller})
        warnings.warn(
            f"{self.device} has too little memory for {recipe.batch} samples of {part} at a time; "
            f"it is trained with {smaller.batch}.",
            stacklevel=2,
        )

    def run(self, parts: Sequence[str]) -> None:
        """Train parts, one after the other."""
        for part in parts:
            for _ in self.train(part):
                pass

    @property
    def complete(self) -> bool:
        """Whether every part of the model is trained, or there to start from; motion modules lie beside it."""
        return all(
            is_done(self.folder, part)
            or (self.start is not None and self.start.holds(part) and not recorded_step(self.folder, part))
            for part in self.recipe.parts
            if part not in BESIDE
        )

    def close(self) -> None:
        """End the processes that render."""
        for scenes in self._scenes.values():
            scenes.close()
