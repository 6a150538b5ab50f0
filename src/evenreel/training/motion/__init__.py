"""Motion modules: what trains them on clips, for any Stable Diffusion 1.x."""
