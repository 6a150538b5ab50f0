"""A host of your own that changes attention layers, tried without a package around it:
`python examples/own_host.py "a blue star"`.

docs/extending.md says how it becomes `--host leaning` for everybody.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch

import evenreel
from evenreel.plugins import (
    AttnProcessor,
    Backbone,
    EditJob,
    Latents,
    Range,
    Session,
    layers,
    predict_guided,
    processors_installed,
    sampling,
    settle,
    sole_session,
    start_of,
)


def leaning(inner: AttnProcessor, frames: int, lean: float) -> AttnProcessor:
    """Mix what a layer attends to in a frame with what it attended to in the frame before."""

    def processor(attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        attended = inner(attn, hidden_states, *args, **kwargs).unflatten(
            0, (-1, frames)
        )  # branches outermost
        before = torch.cat([attended[:, :1], attended[:, :-1]], dim=1)
        return torch.lerp(attended, before, lean).flatten(0, 1)

    return processor


@dataclass(frozen=True, kw_only=True)
class LeaningHost:
    """Frames whose self-attention leans on the frame before; all pass through the model together."""

    name: ClassVar[str] = "leaning"

    lean: Annotated[float, Range(0, 1)] = 0.3
    """Share that comes from the frame before."""

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")

    @sole_session
    def attach(self, backbone: Backbone, job: EditJob) -> Iterator[Session]:
        """Change the self-attention layers while inside; afterwards the model is as it was."""
        unet, frames = backbone.unet, job.shape[0]
        names = layers.self_attentions(unet)
        wrapped = {name: leaning(unet.attn_processors[name], frames, self.lean) for name in names}
        with processors_installed(unet, wrapped):
            yield LeaningSession(backbone, job)


class LeaningSession:
    """One clip."""

    def __init__(self, backbone: Backbone, job: EditJob) -> None:
        self.backbone, self.job = backbone, job

    def start(self) -> tuple[Latents, tuple[int, ...]]:
        """Begin at the inverted source, or at noise."""
        return start_of(self.job, self.backbone.device)

    def predict_noise(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        """Predict the noise of all frames in one call."""
        del step_index
        every = range(len(latents))
        return predict_guided(self.backbone, self.job, latents, every, timestep, with_source=False)


prompt, *steps = sys.argv[1:]
model = evenreel.load_backbone("mini")
embeds = model.embed([prompt, "", ""])
job = EditJob(
    shape=(4, 4, 16, 16),
    timesteps=model.schedule.timesteps(int(steps[0]) if steps else 25),
    prompt_embeds=embeds[:1],
    negative_prompt_embeds=embeds[1:2],
    source_prompt_embeds=embeds[2:],
    guidance_scale=4.0,
)
with LeaningHost(lean=0.3).attach(model, job) as session:
    noisy, timesteps = session.start()
    *_, (_, latents) = sampling.sample(noisy, session.predict_noise, model.schedule, timesteps)
frames = model.decode(latents)
print(f"{len(frames)} frames, each {tuple(frames.shape[1:])}, of {prompt!r}")
