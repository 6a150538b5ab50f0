"""Motion modules behind the layers of a UNet that knows nothing of them, undone without a trace."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from evenreel.backbones.sharing import exclusive
from evenreel.motion.modules import MotionModules
from evenreel.motion.transformer import FrameTransformer


@dataclass
class MotionSwitch:
    """What modules must know of the next network call. Rows of a call are (branches clips frames), frames innermost."""

    frames: int
    """How many frames pass together: every so many rows are one clip."""
    max_frames: int
    """The most that the modules allow."""
    is_on: bool = True
    """False leaves the modules out: the model's own output, bit for bit."""


@contextmanager
def motion_attached(unet: Any, modules: MotionModules, frames: int = 1) -> Generator[MotionSwitch]:
    """Put modules behind the layers of a UNet by forward hooks while inside; `switch.frames` is set before each call.

    Modules work in their own number type and on their own device, which must be the model's (or autocast's).
    LoRA, other attention processors, hooks and a ControlNet's residuals stay at work.
    Raises: WeightsError when the modules were made for a UNet of another shape; inside, a call raises ValueError
    when its rows are not a multiple of `frames`, or `frames` are more than the modules know.
    """
    switch = MotionSwitch(frames, modules.max_frames)
    with exclusive(unet), ExitStack() as hooks:
        for layer, module in modules.places(unet):
            hooks.callback(layer.register_forward_hook(_behind(module, switch)).remove)
        yield switch


def _behind(module: FrameTransformer, switch: MotionSwitch) -> Any:
    def hook(_layer: nn.Module, _inputs: Any, output: Tensor | tuple[Tensor, ...]) -> Any:
        if not switch.is_on:
            return None
        if isinstance(output, tuple):  # a Transformer2DModel's
            return (_moved(module, output[0], switch), *output[1:])
        return _moved(module, output, switch)

    return hook


def _moved(module: FrameTransformer, hidden_states: Tensor, switch: MotionSwitch) -> Tensor:
    frames = switch.frames
    if not 1 <= frames <= switch.max_frames or len(hidden_states) % frames:
        raise ValueError(
            f"{len(hidden_states)} rows in clips of {frames} frames; modules take 1 to {switch.max_frames}."
        )
    return module(hidden_states, frames)
