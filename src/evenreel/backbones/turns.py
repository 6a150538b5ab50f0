"""Parts of a model that lie on its device one at a time, and else in the computer's memory: for small GPUs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from evenreel.backbones.sharing import exclusive

TILE = 512
"""Side of the pieces, in pixels, in which an autoencoder computes a larger frame."""
RESTING = torch.device("cpu")
Networks = Mapping[str, Sequence[Any]]
"""Loaded networks, by the part of the model that they make up."""


@contextmanager
def turn_of(part: str, networks: Networks, device: torch.device) -> Iterator[None]:
    """Give a part the device while inside: the others are moved away first, unless a thread is at work with them.

    Threads wait for each other, in the order of the parts.
    """
    with ExitStack() as stack:
        for network in (network for own in networks.values() for network in own):
            stack.enter_context(exclusive(network))
        move(part, networks, device)
        yield


def move(part: str, networks: Networks, device: torch.device) -> None:
    """Put a part on the device and all others into the computer's memory."""
    for name, own in networks.items():
        for network in own if name != part else ():
            network.to(RESTING)
    for network in networks.get(part, ()):
        network.to(device)


def tiled(vae: Any) -> Any:
    """Return an autoencoder that computes large frames in pieces of TILE, whose edges it blends (diffusers' tiling)."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    vae.enable_slicing()
    vae.enable_tiling()
    vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // factor
    return vae
