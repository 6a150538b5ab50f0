"""A host of your own, tried without a package around it: `python examples/own_host.py "a blue star"`.

docs/extending.md says how it becomes `--host still` for everybody.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import evenreel
from evenreel.plugins import (
    Backbone,
    EditJob,
    Latents,
    Range,
    Session,
    predict_guided,
    sampling,
    settle,
    sole_session,
    start_of,
)


@dataclass(frozen=True, kw_only=True)
class StillHost:
    """Every frame by itself, but pulled towards the mean of the clip's noise predictions."""

    name: ClassVar[str] = "still"

    pull: Annotated[float, Range(0, 1)] = 0.5
    """Share of each prediction that is the mean of all frames."""

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")

    @sole_session
    def attach(self, backbone: Backbone, job: EditJob) -> Iterator[Session]:
        """Nothing is done to the model."""
        yield StillSession(backbone, job, self.pull)


class StillSession:
    """One clip."""

    def __init__(self, backbone: Backbone, job: EditJob, pull: float) -> None:
        self.backbone, self.job, self.pull = backbone, job, pull

    def start(self) -> tuple[Latents, tuple[int, ...]]:
        """Begin at the inverted source, or at noise."""
        return start_of(self.job, self.backbone.device)

    def predict_noise(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        """Predict the noise of all frames at once, then pull."""
        del step_index
        noise_pred = predict_guided(
            self.backbone, self.job, latents, range(len(latents)), timestep, with_source=False
        )
        return noise_pred + self.pull * (noise_pred.mean(0) - noise_pred)


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
with StillHost(pull=0.3).attach(model, job) as session:
    noisy, timesteps = session.start()
    *_, (_, latents) = sampling.sample(noisy, session.predict_noise, model.schedule, timesteps)
frames = model.decode(latents)
print(f"{len(frames)} frames, each {tuple(frames.shape[1:])}, of {prompt!r}")
