"""Deep features of a noise predictor, taken in one call and given to another (DeepCache, arXiv:2312.00858).

Between two steps of a sampling what a UNet computes below its outermost skip connection changes little. A call that is
given it computes the first convolution, the last resnet with its attention, and the convolution out: of `mini`, less
than a tenth of the whole.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

DeepMaps = Float[Tensor, "rows channels height width"]
"""What the last resnet of a UNet gets from the one before it, for each row of a call."""
LAST_BLOCKS = ("CrossAttnUpBlock2D", "UpBlock2D")
"""Classes of diffusers whose last resnet and attention are known; those of Stable Diffusion 1.x to XL."""


def has_deep_features(unet: Any) -> bool:
    """Return whether a noise predictor is a UNet that ends as those of Stable Diffusion do."""
    blocks = getattr(unet, "up_blocks", None)
    return bool(blocks) and type(blocks[-1]).__name__ in LAST_BLOCKS and len(blocks[-1].resnets) > 1


@contextmanager
def taken(unet: Any) -> Generator[list[DeepMaps]]:
    """Add the deep features of every call inside to the list that is yielded."""
    found: list[DeepMaps] = []
    skipped = unet.conv_in.out_channels  # the outermost skip connection, which is joined behind them

    def keep(_resnet: Any, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0][:, :-skipped])

    hook = unet.up_blocks[-1].resnets[-1].register_forward_pre_hook(keep)
    try:
        yield found
    finally:
        hook.remove()


@contextmanager
def given(unet: Any, features: DeepMaps) -> Generator[None]:
    """Let calls inside use these deep features in the place of their own.

    Of what a ControlNet adds, only the outermost part has an effect then; what was taken had all of it.
    """
    *inner, last = unet.up_blocks
    stand_ins: dict[Any, Callable[..., Any]] = {last: _ending(last, features)}
    stand_ins |= dict.fromkeys((unet.mid_block, *inner), _nothing)
    stand_ins |= {block: _no_residuals(block) for block in unet.down_blocks}
    for block, stand_in in stand_ins.items():
        block.forward = stand_in
    try:
        yield
    finally:
        for block in stand_ins:
            del block.forward


def is_given(network: Any) -> bool:
    """Return whether a network is a UNet whose deep features are given at the moment."""
    return "forward" in vars(getattr(network, "mid_block", None) or network)


def _ending(block: Any, features: DeepMaps) -> Callable[..., Tensor]:
    """What the last block does with its last resnet and attention, as diffusers has it."""

    def forward(
        hidden_states: Tensor,
        temb: Tensor,
        res_hidden_states_tuple: tuple[Tensor, ...],
        upsample_size: Any = None,
        **text: Any,
    ) -> Tensor:
        joined = torch.cat([features, res_hidden_states_tuple[0]], dim=1)
        output = block.resnets[-1](joined, temb)
        if getattr(block, "has_cross_attention", False):
            output = block.attentions[-1](output, **text, return_dict=False)[0]
        return output

    return forward


def _nothing(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    # without a shape: what a ControlNet adds to it may have any
    return hidden_states.new_zeros(())


def _no_residuals(block: Any) -> Callable[..., tuple[Tensor, tuple[Tensor, ...]]]:
    """A block on the way down that computes nothing, and hands on as many residuals as it would."""
    count = len(block.resnets) + len(block.downsamplers or ())

    def forward(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        return _nothing(hidden_states), (_nothing(hidden_states),) * count

    return forward
