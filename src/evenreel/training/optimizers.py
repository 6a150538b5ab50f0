"""Muon for matrices and kernels, AdamW for everything else."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

OUTSIDE = ("embedding", "embed", "conv_in", "conv_out", "heads", "projection")
"""Layers that are not maps between hidden spaces, named by a part of their path: AdamW takes them."""
_ROUNDS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalised(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the nearest (semi-)orthogonal matrices, roughly: singular values between .7 and 1.2 (Newton-Schulz, Muon).

    matrices: (count rows columns). The rounds are computed in `dtype`: bfloat16 is enough, where it is fast.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024), at AdamW's size (arXiv:2502.16982): one learning rate serves both.

    A kernel is taken as a matrix (out, in x height x width). Parameters of one shape are computed together: on a GPU a
    network of hundreds of small matrices would otherwise wait for the launches.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        weight_decay: float,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": 0.0, "weight_decay": weight_decay, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update the parameters from their gradients."""
        assert closure is None, "gradients are there already"
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for value in group["params"]:
                if value.grad is not None:
                    shapes[value.shape].append(value)
            for values in shapes.values():
                self._update(values, group)

    def _update(self, values: list[Tensor], group: Mapping[str, Any]) -> None:
        rate, momentum = group["lr"], group["momentum"]
        gradients = [value.grad for value in values if value.grad is not None]
        buffers = [
            self.state[value].setdefault("momentum_buffer", torch.zeros_like(value)) for value in values
        ]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, buffers, momentum)  # noqa: SLF001 - as the others
        directions = orthogonalised(torch.stack([tensor.flatten(1) for tensor in ahead]), self._dtype)
        size = 0.2 * max(directions.shape[-2:]) ** 0.5
        torch._foreach_mul_(values, 1 - rate * group["weight_decay"])
        updates = [d.view_as(value) for d, value in zip(directions, values, strict=True)]
        torch._foreach_add_(values, updates, alpha=-rate * size)


def build(
    parameters: Mapping[str, nn.Parameter],
    kind: str,
    *,
    weight_decay: float,
    betas: tuple[float, float],
    dtype: torch.dtype = torch.float32,
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a training: `adamw`, or `muon` with AdamW for what is not a hidden matrix."""
    matrices: dict[str, nn.Parameter] = {}
    if kind == "muon":
        matrices = {
            name: value
            for name, value in parameters.items()
            if value.ndim >= 2 and not any(part in name for part in OUTSIDE)
        }
    others = [value for name, value in parameters.items() if name not in matrices]
    optimizers: list[torch.optim.Optimizer] = []
    if others:
        optimizers.append(
            torch.optim.AdamW(others, lr=0.0, betas=betas, weight_decay=weight_decay, fused=True)
        )
    if matrices:
        optimizers.append(Muon(matrices.values(), weight_decay=weight_decay, dtype=dtype))
    return optimizers
