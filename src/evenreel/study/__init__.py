"""The papers' experiments on any model: items run once, kept as JSON lines, and reported from those lines alone."""
