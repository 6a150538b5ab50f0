"""Running the items of a study: what can be done with a clip, what an item depends on, and its line."""
