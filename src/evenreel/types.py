"""The shapes that travel between modules, named once (jaxtyping; checked at run time in the tests)."""

from jaxtyping import Float, UInt8
from torch import Tensor

Frames = Float[Tensor, "frames 3 height width"]
"""RGB in [0, 1]."""

Pixels = UInt8[Tensor, "frames height width 3"]
"""RGB as it comes from, and goes to, a video file."""

Latents = Float[Tensor, "frames channels height width"]
"""VAE latents, multiplied by `vae.config.scaling_factor`."""

PromptEmbeds = Float[Tensor, "prompts tokens features"]
"""Hidden states of the text encoder; with SD-XL, and the pooled text behind them (`backbones.conditioning`)."""

PromptRows = Float[Tensor, "_ tokens features"]
"""`PromptEmbeds`, where they stand beside latents, whose width is another, or beside more prompts."""
