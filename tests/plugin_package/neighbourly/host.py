"""A host as another package would bring it, written against `evenreel.plugins` alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from evenreel.plugins import (
    Backbone,
    EditJob,
    Latents,
    Range,
    Session,
    predict_guided,
    settle,
    sole_session,
    start_of,
)


@dataclass(frozen=True, kw_only=True)
class NeighbourlyHost:
    """Every frame by itself, but for a share of the noise that is predicted for the frames beside it."""

    name: ClassVar[str] = "neighbourly"

    share: Annotated[float, Range(0.0, 1.0)] = 0.25
    """Share of a frame's noise that comes from its neighbours."""

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")

    @sole_session
    def attach(self, backbone: Backbone, job: EditJob) -> Iterator[Session]:
        """Nothing is done to the model."""
        yield NeighbourlySession(backbone, job, self.share)


class NeighbourlySession:
    """One edit."""

    def __init__(self, backbone: Backbone, job: EditJob, share: float) -> None:
        self.backbone, self.job, self.share = backbone, job, share

    def start(self) -> tuple[Latents, tuple[int, ...]]:
        """At the inverted source, or at noise."""
        return start_of(self.job, self.backbone.device)

    def predict_noise(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        """Guided noise prediction, mixed along the clip; its ends are their own neighbours."""
        del step_index
        windows = torch.arange(len(latents)).split(self.job.batch)
        noise_pred = torch.cat(
            [
                predict_guided(
                    self.backbone, self.job, latents[rows], rows.tolist(), timestep, with_source=False
                )
                for rows in windows
            ]
        )
        before = torch.cat([noise_pred[:1], noise_pred[:-1]])
        after = torch.cat([noise_pred[1:], noise_pred[-1:]])
        return (1 - self.share) * noise_pred + self.share / 2 * (before + after)
