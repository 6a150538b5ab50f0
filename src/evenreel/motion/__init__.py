"""Motion modules (AnimateDiff, arXiv:2307.04725): attention over frames behind the layers of a frozen UNet."""
