"""The mathematics of diffusion: pure functions on tensors that know no model."""
