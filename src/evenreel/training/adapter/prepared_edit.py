"""A step of edits that an adapter learns from, as it is handed to the training."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from evenreel.hosts.base import Prompts


@dataclass(frozen=True)
class PreparedEdit:
    """A step of some edits. Rows: groups outermost, then frames."""

    slot: int
    """Which of the edits under way it belongs to."""
    step: int
    """Which of the steps inside the window it is; 0 begins the edits."""
    latents: Float[Tensor, "rows channels height width"]
    """Of the source."""
    answers: Float[Tensor, "rows channels height width"]
    """Of the right answer."""
    source_text: Float[Tensor, "groups _ _"]
    text: Float[Tensor, "groups _ _"]
    """Of the prompt that asks for the right answer."""
    negative_text: Float[Tensor, "one _ _"]
    """Of no prompt."""
    prompts: tuple[Prompts, ...]
    """The texts of each group, as far as they are read."""
    vision: Float[Tensor, "rows _ _"] | None
    """Hidden states of the vision tower, where prompt tokens are trained."""
    guidance_scales: tuple[float, ...]
    """Of each group."""
    seeds: tuple[int, ...]
    """From which the noise of each group's edit follows."""
