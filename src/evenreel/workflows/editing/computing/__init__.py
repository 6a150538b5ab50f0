"""The numbers of an edit: pixels to latents, noise and back, window by window."""
