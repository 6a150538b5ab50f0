"""ControlNets: what trains them on pictures and their maps, for any Stable Diffusion 1.x."""
