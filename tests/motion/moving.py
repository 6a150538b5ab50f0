"""Motion modules to try things on."""

import torch

from evenreel.motion.modules import MotionModules
from tiny import WIDTH, tiny_unet


def random_motion(unet=None, seed=0, **changes):
    """Modules that matter: their last projections are not zero."""
    modules = MotionModules.for_unet(tiny_unet() if unet is None else unet, seed=seed, **changes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in modules.named_parameters():
            if ".proj_out." in name:
                weight.normal_(0, 0.2, generator=generator)
    return modules.eval().requires_grad_(False)


def call_inputs(rows, seed=0, size=8):
    """Noisy latents, a timestep and embeddings for so many rows."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, 4, size, size, generator=generator),
        torch.tensor(500),
        torch.randn(rows, 5, WIDTH, generator=generator),
    )
