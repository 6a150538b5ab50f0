"""Text-guided video editing with Stable-Diffusion-type models."""
