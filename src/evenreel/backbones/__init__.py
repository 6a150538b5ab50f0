"""Text-to-image models behind one protocol; the only place that knows diffusers and transformers."""

from evenreel.backbones.base import Backbone
from evenreel.backbones.load import load_backbone

__all__ = ["Backbone", "load_backbone"]
