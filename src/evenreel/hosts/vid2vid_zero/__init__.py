"""vid2vid-zero (arXiv:2303.17599)."""

from evenreel.hosts.vid2vid_zero.host import Vid2VidZeroHost

__all__ = ["Vid2VidZeroHost"]
