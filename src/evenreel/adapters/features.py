"""What a UNet's decoder attends to, collected while it runs: the features that temporal losses compare."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from evenreel.backbones import hooks, layers


@contextmanager
def features_collected(unet: Any, names: Sequence[str] | None = None) -> Generator[dict[str, Tensor]]:
    """Collect outputs (batch, tokens, channels) of self-attentions by processor name, those of the last network call.

    They are what comes out of the output projection, with their gradients. `names` are by default those of
    `layers.decoder_self_attentions`: on SD 1.x up_blocks 1:[1, 2], 2:[0, 1, 2] and 3:[0, 1, 2]. Afterwards the mapping
    is empty.
    """
    features: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name in layers.decoder_self_attentions(unet) if names is None else names:

            def keep(output: Tensor, name: str = name) -> Tensor:
                features[name] = output
                return output

            stack.enter_context(hooks.forward_hooked(layers.attention(unet, name), keep))
        try:
            yield features
        finally:
            features.clear()
