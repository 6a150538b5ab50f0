"""VidToMe (arXiv:2312.10656)."""

from evenreel.hosts.vidtome.host import VidToMeHost

__all__ = ["VidToMeHost"]
