"""How well a clip survives an edit that asks for nothing: what an inversion loses, and what it costs."""

import time
from dataclasses import dataclass
from typing import Any

from evenreel.backbones import Backbone
from evenreel.hosts.base import create_host
from evenreel.metrics.fidelity import psnr
from evenreel.settings import EditSettings
from evenreel.types import Frames, Latents, PromptRows
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.records.resource_use import Stopwatch

NOTHING_INJECTED = {"host": "frame", "host_options": {"pnp_attn": 0.0, "pnp_conv": 0.0, "p2p_cross": 0.0}}
"""Every frame by itself and from the prompt alone, so that nothing but the inversion brings the source back."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """A clip that was inverted and sampled back with the same prompt."""

    latents: Latents
    """What came back."""
    psnr: float
    """Of the frames against the source, in dB: at best what the autoencoder reaches."""
    psnr_to_autoencoder: float
    """Of the frames against the source encoded and decoded, in dB: what the inversion alone loses."""
    predictions: float
    """Noise predictions of the inversion for each frame; a prompt and the negative prompt count twice, and gradients
    count nothing."""
    seconds: float
    """Time of the inversion. On a CPU that of the processor, over all threads, which other programs do not lengthen."""


class CountingBackbone:
    """A model that counts the latents whose noise it predicts."""

    def __init__(self, inner: Backbone) -> None:
        self._inner, self.predictions = inner, 0

    def predict_noise(self, latents: Latents, timestep: int, prompt_embeds: PromptRows) -> Latents:
        """Predict as the model does, and count."""
        self.predictions += len(latents)
        return self._inner.predict_noise(latents, timestep, prompt_embeds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


Backbone.register(CountingBackbone)


def reconstruct(
    backbone: Backbone, frames: Frames, prompt: str, *, guidance_scale: float = 1.0, **settings: Any
) -> Reconstruction:
    """Invert frames of the model's own size and sample them back with one `prompt`, by the same code as an edit.

    `settings` are others of `EditSettings`: `steps`, `inversion`, `inversion_options`, ... Raises: SettingsError.
    """
    asked = {"source_prompt": prompt, "guidance_scale": guidance_scale, **NOTHING_INJECTED, **settings}
    chosen = EditSettings.from_json({"prompt": prompt, **asked})
    counting = CountingBackbone(backbone)
    clock = time.process_time if backbone.device.type == "cpu" else time.perf_counter
    spent: list[float] = []

    def progress(stage: str, done: int, total: int | None) -> None:
        del total
        if stage == "edit" and done == 0:
            spent.extend((clock() - start, counting.predictions / len(frames)))

    host = create_host(chosen.host, chosen.host_options)
    latents = backbone.encode(frames)
    pipeline = Pipeline(counting, host, chosen, progress, Stopwatch(backbone.device))  # pyright: ignore[reportArgumentType]
    start = clock()
    rebuilt = pipeline.edit(latents)
    seconds, predictions = spent
    decoded, source = backbone.decode(rebuilt).cpu(), frames.cpu()
    return Reconstruction(
        latents=rebuilt,
        psnr=psnr(decoded, source),
        psnr_to_autoencoder=psnr(decoded, backbone.decode(latents).cpu()),
        predictions=predictions,
        seconds=seconds,
    )
