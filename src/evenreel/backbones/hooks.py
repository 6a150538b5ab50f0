"""Ways to attach to a model that are undone without a trace, also after an exception."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from evenreel.backbones.sharing import exclusive

AttnProcessor = Callable[..., Tensor]
"""Called as (attn, hidden_states, encoder_hidden_states=None, attention_mask=None, ...) -> hidden_states."""


@contextmanager
def processors_installed(unet: Any, replace: Mapping[str, AttnProcessor]) -> Iterator[None]:
    """Use other attention processors, by diffusers' names ("mid_block. ... .attn1.processor"), while inside.

    Raises: KeyError when the model has no layer of such a name.
    """
    with exclusive(unet):
        original = dict(unet.attn_processors)
        if unknown := replace.keys() - original.keys():
            raise KeyError(f"no such attention layers: {sorted(unknown)}")
        try:
            unet.set_attn_processor({**original, **replace})
            yield
        finally:
            unet.set_attn_processor(dict(original))  # a copy: diffusers empties its argument


@contextmanager
def forward_hooked(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Pass what `module` returns through `change` while inside."""
    handle = module.register_forward_hook(lambda _module, _inputs, output: change(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def inputs_hooked(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Pass the first input of `module` through `change` while inside."""
    handle = module.register_forward_pre_hook(lambda _module, inputs: (change(inputs[0]), *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def timesteps_seen(unet: Any, see: Callable[[int], None]) -> Iterator[None]:
    """Tell `see` the timestep of every network call before it begins, while inside.

    Raises: ValueError in a call whose rows have different timesteps.
    """

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        timestep = kwargs["timestep"] if "timestep" in kwargs else args[1]
        if isinstance(timestep, Tensor):
            different = timestep.unique()
            if len(different) != 1:
                raise ValueError(f"one network call at several timesteps: {different.tolist()}")
            timestep = different.item()
        see(int(timestep))

    with exclusive(unet):
        handle = unet.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
