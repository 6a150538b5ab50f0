"""Stable Diffusion XL (arXiv:2307.01952): its folders and files, its two text encoders, and the model."""
