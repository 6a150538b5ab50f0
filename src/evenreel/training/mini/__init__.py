"""The packaged mini model, made from nothing."""
