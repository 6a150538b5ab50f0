"""Text2Video-Zero (arXiv:2303.13439)."""

from evenreel.hosts.text2video_zero.host import Text2VideoZeroHost

__all__ = ["Text2VideoZeroHost"]
