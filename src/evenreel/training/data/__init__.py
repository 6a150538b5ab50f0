"""Training data: where clips and captions come from, and the shards they are kept in."""
