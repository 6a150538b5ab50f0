"""Small edits to try hosts on."""

import torch

from evenreel.backbones import Backbone
from evenreel.diffusion.sampling import sample
from evenreel.diffusion.trajectory import Trajectory
from evenreel.hosts.base import EditJob, Prompts


@Backbone.register
class Around:
    """A backbone around another one; tests override what they watch."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)


def random_latents(frames, seed=0, size=8):
    """In float64, as the laws of hosts are tested."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, 4, size, size, generator=generator, dtype=torch.float64)


def job_for(backbone, frames, *, steps=3, source=True, size=8, **changes):
    """An edit of made-up source latents."""
    prompts = Prompts(source="a blue ball", edit="a red ball")
    embeds = backbone.embed([prompts.edit, "blurry", prompts.source])
    timesteps = backbone.schedule.timesteps(steps)
    source_latents = {t: random_latents(frames, seed=t, size=size) for t in timesteps}
    fields = {
        "shape": (frames, 4, size, size),
        "timesteps": timesteps,
        "prompt_embeds": embeds[:1],
        "negative_prompt_embeds": embeds[1:2],
        "source_prompt_embeds": embeds[2:],
        "prompts": prompts,
        "source": Trajectory.of(source_latents) if source else None,
        "clean": random_latents(frames, seed=12345, size=size) if source else None,
    }
    return EditJob(**(fields | changes))


def edit(backbone, host, job, **attach):
    """Latents at the end of an edit."""
    with host.attach(backbone, job, **attach) as session:
        latents, timesteps = session.start()
        latents = latents.to(torch.promote_types(backbone.dtype, torch.float32))  # noise is drawn in float32
        *_, (_, latents) = sample(latents, session.predict_noise, backbone.schedule, timesteps)
    return latents
