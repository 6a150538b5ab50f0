"""Steps of a sampling that share deep features of the noise predictor (DeepCache, arXiv:2312.00858)."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from evenreel.backbones.deep_features import DeepMaps, given, taken
from evenreel.scratch import room

Branch = Literal["source", "uncond", "cond"]


@dataclass
class FeatureReuse:
    """What the frames of a clip have in the deep layers, by branch, from one step of a group to the next.

    Groups are `interval` steps in a row. The first of them computes everything; each other one leaves the deep layers
    out, for rows that were computed in the same group, whichever frames passed together then.
    """

    unet: Any
    """The noise predictor."""
    timesteps: Sequence[int]
    """Those of the run, descending."""
    interval: int
    """Steps of a group, from 2 up."""
    frames: int
    """Of the clip."""
    is_used: bool = False
    """Whether a call has passed through it."""
    _kept: dict[Branch, Tensor] = field(default_factory=dict["Branch", Tensor])
    _group: dict[tuple[Branch, int], int] = field(default_factory=dict[tuple["Branch", int], int])
    """By branch and frame, the group in which it was computed."""

    def begins_group(self, timestep: int) -> bool:
        """Return whether a step needs nothing of those before it."""
        return self.timesteps.index(timestep) % self.interval == 0

    def leaves_out(self, branches: Sequence[Branch], frames: Sequence[int], timestep: int) -> bool:
        """Return whether a network call with these rows leaves the deep layers out, as far as what is there goes."""
        group = self.timesteps.index(timestep) // self.interval
        rows: list[tuple[Branch, int]] = [(branch, frame) for branch in branches for frame in frames]
        return not self.begins_group(timestep) and all(self._group.get(row) == group for row in rows)

    @contextmanager
    def passing(
        self, branches: Sequence[Branch], frames: Sequence[int], timestep: int, *, whole: bool = False
    ) -> Generator[None]:
        """Compute the deep layers of one network call inside, or leave them out, unless it must be `whole`.

        Rows are (branches frames).
        """
        self.is_used = True
        if len(set(frames)) < len(frames):  # a frame that is there twice has two maps
            yield
            return
        if not whole and self.leaves_out(branches, frames, timestep):
            maps = torch.cat([self._kept[branch][list(frames)] for branch in branches])
            with given(self.unet, maps.to(self.unet.device)):
                yield
            return
        with taken(self.unet) as found:
            yield
        for branch, maps in zip(branches, found[-1].chunk(len(branches)), strict=True):
            self._take(branch, frames, timestep, maps)

    def of(self, branch: Branch, frames: Sequence[int]) -> DeepMaps:
        """Return what frames have in the deep layers, as computed last."""
        return self._kept[branch][list(frames)]

    def take_up(self, branch: Branch, frames: Sequence[int], timestep: int, maps: DeepMaps) -> None:
        """Take what `of` gave in another run at this timestep, in the place of a call."""
        self.is_used = True
        self._take(branch, frames, timestep, maps)

    def _take(self, branch: Branch, frames: Sequence[int], timestep: int, maps: DeepMaps) -> None:
        group = self.timesteps.index(timestep) // self.interval
        self._group.update(dict.fromkeys([(branch, frame) for frame in frames], group))
        if branch not in self._kept:
            self._kept[branch] = room((self.frames, *maps.shape[1:]), maps.dtype, maps.device)
        self._kept[branch][list(frames)] = maps.to(self._kept[branch])
