"""DDIM inversion (arXiv:2105.05233): the sampling read backwards."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from evenreel.diffusion import inversion
from evenreel.diffusion.inversion import Inverted
from evenreel.inversions.base import SourceClip


@dataclass(frozen=True, kw_only=True)
class DdimInversion:
    """DDIM read backwards (arXiv:2105.05233): sampling comes back roughly, and better the more steps are taken."""

    name: ClassVar[str] = "ddim"
    refines: ClassVar[bool] = True
    is_random: ClassVar[bool] = False
    guided: ClassVar[bool] = False

    @contextmanager
    def inverted(self, source: SourceClip) -> Generator[Inverted]:
        """Invert by `source.refinement` steps for each one of the sampling."""
        with source.recorded(inversion.invert, source.refinement) as trajectory:
            yield Inverted(timesteps=source.timesteps, trajectory=trajectory)
