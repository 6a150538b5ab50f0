"""A backbone plug-in, as another package would bring it."""

from evenreel.backbones import families


def load(location, *, device, dtype, download):
    backbone = families.load(location, device=device, dtype=dtype, download=download)
    backbone.name = "a toy"
    return backbone
