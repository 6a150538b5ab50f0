"""What an adapter can learn from, behind one switch: noise in clips, as published, or edits and their right answers."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager

from torch import nn

from evenreel.adapters.adapter import Adapter
from evenreel.adapters.lora import lora_attached
from evenreel.backbones.base import Backbone
from evenreel.backbones.control import ControlNet
from evenreel.backbones.sharing import exclusive
from evenreel.hosts.motion_windows import MotionWindows
from evenreel.motion.attach import motion_attached
from evenreel.motion.modules import MotionModules
from evenreel.training.adapter.edits import EditDraws, EditTrainee
from evenreel.training.adapter.noise import AdapterTrainee, prepare
from evenreel.training.adapter.settings import EditLossSettings, Objective
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.shards import DrawBatch


def draws(
    draw: DrawBatch,
    encoded: Encoded,
    settings: Objective,
    accumulation: int,
    captions: Sequence[str] = (),
) -> tuple[Callable[[int], object], int]:
    """Return micro-batches by number for `Training`; and how many steps belong together, for its `unit`."""
    if isinstance(settings, EditLossSettings):
        edits = EditDraws(draw, encoded, settings, accumulation, captions)
        return edits, edits.length
    return lambda number: prepare(draw(number), encoded, settings), 1


@contextmanager
def training_in(
    backbone: Backbone,
    adapter: Adapter,
    settings: Objective,
    modules: MotionModules | None = None,
    control: ControlNet | None = None,
) -> Generator[nn.Module]:
    """Put the adapter into the model's layers, with gradients, while inside; afterwards the model is as it was.

    Motion `modules`, if there are some, are at work in the edits that it learns from, a ControlNet where it learns from
    noise.
    """
    with ExitStack() as stack:
        stack.enter_context(exclusive(backbone.unet, training=True))
        switch = None
        if adapter.lora is not None:
            switch = stack.enter_context(lora_attached(backbone.unet, adapter.lora, trainable=True))
        if not isinstance(settings, EditLossSettings):
            if control is not None:
                control.net.requires_grad_(False)
            yield AdapterTrainee(backbone, adapter, switch, settings, control)
            return
        motion = None
        if modules is not None:
            attached = stack.enter_context(motion_attached(backbone.unet, modules))
            attached.is_on = False
            timesteps = backbone.schedule.timesteps(settings.steps)
            motion = MotionWindows(switch=attached, most=modules.max_frames, timesteps=timesteps)
        yield EditTrainee(backbone, adapter, switch, settings, motion)
