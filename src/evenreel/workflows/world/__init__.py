"""Edits of the procedural world, whose right answers are known: the demo, the study, the report on the mini model."""
