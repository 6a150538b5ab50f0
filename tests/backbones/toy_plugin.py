"""A backbone plug-in, as another package would bring it."""

from evenreel.backbones import stable_diffusion


def load(location, *, device, dtype, download):
    backbone = stable_diffusion.load(location, device=device, dtype=dtype, download=download)
    backbone.name = "a toy"
    return backbone
