"""Everything that decides what comes out of a training of motion modules."""

from dataclasses import dataclass, field

from evenreel.errors import SettingsError
from evenreel.training.loop import LoopSettings


@dataclass(frozen=True, kw_only=True)
class MotionTrainingSettings:
    """The full settings of a training. Learning rate and weighting follow AnimateDiff (arXiv:2307.04725)."""

    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(steps=5000, learning_rate=1e-4, average=0.995)
    )
    """Steps, learning rate, number type: how it is trained."""
    model: str = "mini"
    """The model they are made for: what `evenreel edit --model` takes. It is not changed."""
    start: str | None = None
    """Modules to go on from: `mini`, a diffusers MotionAdapter folder, or a name on the hub; None begins anew."""
    clips: int = 2
    """Clips in a micro-batch."""
    strides: tuple[int, ...] = (1, 2)
    """Frame rates, as every how many frames of a group are seen; one is drawn for each micro-batch."""
    max_frames: int = 32
    """The most frames that new modules can ever see together."""
    middle: bool = False
    """Whether new modules have one in the middle of the UNet too."""
    unconditional: float = 0.1
    """Share of captions left out, for guidance."""
    seed: int = 0
    """Where weights, batches, noise and noise levels start."""
    device: str = "auto"
    """Where it is trained: auto, cpu, cuda, cuda:1 or mps."""
    cache_bytes: int = 2**30
    """How many bytes of frozen encoders' work are kept."""

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise SettingsError(f"clips must be at least 1, got {self.clips}.")
        if not self.strides or min(self.strides) < 1:
            raise SettingsError(f"strides must be whole numbers from 1 up, got {self.strides}.")
        if not 2 <= self.max_frames <= 1024:
            raise SettingsError(f"max_frames must be from 2 to 1024, got {self.max_frames}.")
        if not 0 <= self.unconditional <= 1:
            raise SettingsError(f"unconditional must be from 0 to 1, got {self.unconditional}.")

    def check_frames(self, frames: int, most: int) -> None:
        """Raise SettingsError unless groups of so many frames hold clips of every stride that modules can see."""
        if frames < 2 or (frames - 1) // max(self.strides) < 1:
            raise SettingsError(
                f"groups of {frames} frames hold no clip of stride {max(self.strides)}; build the data with more "
                "--frames, or choose smaller strides."
            )
        if (seen := seen_at(frames, min(self.strides))) > most:
            raise SettingsError(
                f"groups of {frames} frames give clips of {seen}, and the modules see at most {most} together; build "
                "the data with fewer --frames."
            )


def seen_at(frames: int, stride: int) -> int:
    """How many frames a group of `frames` shows at a stride."""
    return (frames - 1) // stride + 1
