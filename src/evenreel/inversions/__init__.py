"""The ways from a clip to what its edit starts from: one file each, found through entry points."""
