"""Adapters: what they learn, from noise or from edits."""
