"""Edits measured against their sources: pairs of clips, benchmarks, and the figures as JSON."""
