"""The version, where both the build and the program find it."""

__version__ = "0.2.0"
