"""Everything that decides what comes out of an adapter's training."""

from dataclasses import dataclass, field

from evenreel.adapters.adapter import AdapterSettings
from evenreel.errors import SettingsError
from evenreel.training.adapter.edits import EditLossSettings
from evenreel.training.adapter.objective import Objective
from evenreel.training.loop import LoopSettings


@dataclass(frozen=True, kw_only=True)
class AdapterTrainingSettings:
    """The full settings of a training; `recipes` has measured and published ones by name."""

    loop: LoopSettings
    """Steps, learning rate, number type: how it is trained."""
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    """What is trained, and where it will be at work."""
    loss: Objective = field(default_factory=EditLossSettings)
    """What is minimised: errors of edits, or of noise."""
    model: str = "mini"
    """The model it is made for: what `evenreel edit --model` takes."""
    clip: str = "mini"
    """CLIP whose vision tower looks at frames: a folder in transformers' layout, or `mini`."""
    pairs: int = 1
    """Groups of frames in a micro-batch."""
    seed: int = 0
    """Where weights, batches, noise and noise levels start."""
    device: str = "auto"
    """Where it is trained: auto, cpu, cuda, cuda:1 or mps."""
    cache_bytes: int = 2**30
    """How many bytes of frozen encoders' work are kept."""
    licence: str = "Apache-2.0"
    """The licence under which the adapter comes; one line."""

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise SettingsError(f"pairs must be at least 1, got {self.pairs}.")
