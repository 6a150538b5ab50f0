"""The part of a clip that is edited: what says so, and how the rest stays the source."""
