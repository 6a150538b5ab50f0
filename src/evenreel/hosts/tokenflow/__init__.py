"""TokenFlow (arXiv:2307.10373)."""

from evenreel.hosts.tokenflow.host import TokenFlowHost

__all__ = ["TokenFlowHost"]
