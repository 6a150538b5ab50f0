"""Algorithms that turn a text-to-image model into a video editor."""
