"""The version, where both the build and the program find it."""

__version__ = "0.1.0"
