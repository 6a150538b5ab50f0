"""The GE-Adapter (arXiv:2501.04606): its parts, each usable alone, and the object that puts them together."""
