"""Deep features of a noise predictor, taken in one call and given to another (DeepCache, arXiv:2312.00858).

Between two steps of a sampling the deep layers of a UNet, where its maps are small, change little. A call that is given
their output computes the first block on the way down and the last one on the way up, and nothing between them.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor

DeepMaps = Float[Tensor, "rows channels height width"]
"""What enters the last block of a UNet from below, for each row of a call."""


def has_deep_features(unet: Any) -> bool:
    """Return whether a noise predictor has blocks between its first and its last."""
    return len(getattr(unet, "up_blocks", ())) > 1


@contextmanager
def taken(unet: Any) -> Generator[list[DeepMaps]]:
    """Add the deep features of every call inside to the list that is yielded."""
    found: list[DeepMaps] = []
    hook = unet.up_blocks[-2].register_forward_hook(lambda _block, _args, output: found.append(output))
    try:
        yield found
    finally:
        hook.remove()


@contextmanager
def given(unet: Any, features: DeepMaps) -> Generator[None]:
    """Let calls inside use these deep features in the place of their own.

    What a ControlNet adds to deeper layers has no effect then; what was taken had it.
    """
    *middle, last = unet.up_blocks[:-1]
    stand_ins: dict[Any, Callable[..., Any]] = {last: lambda *_args, **_kwargs: features}
    for block in (unet.mid_block, *middle):
        stand_ins[block] = lambda hidden_states, *_args, **_kwargs: hidden_states
    for block in unet.down_blocks[1:]:
        stand_ins[block] = _nothing_new(block)
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


def _nothing_new(block: Any) -> Callable[..., Any]:
    """A block on the way down that computes nothing, and hands as many residuals on as the block would."""
    residuals = len(block.resnets) + len(block.downsamplers or ())

    def forward(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        return hidden_states, (hidden_states.new_zeros(()),) * residuals

    return forward
