"""Everything that a run needs, opened and checked before its long work begins."""
