"""What LoRAs of all kinds add to a layer's weight, each an equation of its own.

LoRA (arXiv:2106.09685), its form for convolutions (LoCon), LoHa and LoKr (LyCORIS, arXiv:2309.14859), DoRA
(arXiv:2402.09353), and plain differences.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from evenreel.errors import WeightsError

_COMMON = ("alpha", "scalar", "magnitude", "diff_b")
_SETS: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    (frozenset({"down", "up"}), frozenset({"mid", *_COMMON})),
    (
        frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}),
        frozenset({"hada_t1", "hada_t2", *_COMMON}),
    ),
    (frozenset({"diff"}), frozenset({"diff_b", "alpha"})),
    (frozenset({"diff_b"}), frozenset({"alpha"})),
)
"""(tensors that a change needs, tensors that it may have)."""
_LOKR = frozenset(
    {
        "lokr_w1",
        "lokr_w1_a",
        "lokr_w1_b",
        "lokr_w2",
        "lokr_w2_a",
        "lokr_w2_b",
        "lokr_t2",
        *_COMMON,
    }
)


@dataclass(frozen=True)
class WeightChange:
    """The change of one layer: its tensors, by what they are (see `lora_names.Slot`)."""

    layer: str
    """The layer's name in the file, for messages."""
    tensors: Mapping[str, Tensor]
    scaling: float | None = None
    """By what the product is multiplied, where the file says it for all layers; None: alpha / rank of its own."""

    def __post_init__(self) -> None:
        found = frozenset(self.tensors)
        known = any(needed <= found <= needed | allowed for needed, allowed in _SETS)
        if not (known or (_is_lokr(found) and found <= _LOKR)):
            raise WeightsError(
                f"{self.layer} has {', '.join(sorted(found))}, which do not make a change of a layer"
            )
        if empty := sorted(name for name, tensor in self.tensors.items() if tensor.numel() == 0):
            raise WeightsError(
                f"{self.layer} has {', '.join(empty)} without any number, which change nothing"
            )
        for name in ("alpha", "scalar"):
            if name in self.tensors and self.tensors[name].numel() != 1:
                raise WeightsError(
                    f"{self.layer} has {name} of {self.tensors[name].numel()} numbers, not one"
                )
        try:
            self._product(torch.device("meta"))
        except RuntimeError as error:  # whatever the model
            raise WeightsError(f"{self.layer} has factors whose ranks disagree ({self._shapes()})") from error

    def added(self, weight: Tensor) -> Tensor | None:
        """Return what is added to a weight, in float32; None where only the bias changes. Raises: WeightsError."""
        delta = self._product(weight.device)
        if delta is None:
            return None
        if delta.numel() != weight.numel():
            raise WeightsError(
                f"{self.layer} changes a weight of shape {tuple(delta.shape)}, and the model's is {tuple(weight.shape)}"
            )
        delta = delta.reshape(weight.shape)
        if "magnitude" in self.tensors:
            return _with_magnitude(weight.float(), delta, self.tensors["magnitude"].float()) - weight.float()
        return delta

    def added_to_bias(self, bias: Tensor) -> Tensor | None:
        """Return what is added to a bias, in float32. Raises: WeightsError."""
        if "diff_b" not in self.tensors:
            return None
        if self.tensors["diff_b"].shape != bias.shape:
            raise WeightsError(f"{self.layer} changes a bias of another size than the model's")
        return self.tensors["diff_b"].float()

    @property
    def rank(self) -> int | None:
        """The rank of the change; None where it has none."""
        for name, axis in (("down", 0), ("hada_w1_b", 0), ("lokr_w2_b", 0), ("lokr_w1_b", 0)):
            if name in self.tensors:
                return self.tensors[name].shape[axis]
        return None

    def _product(self, device: torch.device) -> Tensor | None:
        parts = {name: tensor.to(device).float() for name, tensor in self.tensors.items()}
        product = self._unscaled(parts)
        # a number that LyCORIS trained beside the factors
        scalar = self.tensors.get("scalar")
        return product if product is None or scalar is None else product * scalar.float().item()

    def _unscaled(self, parts: Mapping[str, Tensor]) -> Tensor | None:
        if "down" in parts:
            return self._scale() * _lora(parts)
        if "hada_w1_a" in parts:
            return self._scale() * _hadamard(parts)
        if "diff" in parts:
            return parts["diff"]
        return self._kronecker(parts) if _is_lokr(frozenset(parts)) else None

    def _shapes(self) -> str:
        """The sizes of the factors, for messages."""
        sized = {name: tensor.shape for name, tensor in self.tensors.items() if tensor.ndim > 1}
        return ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in sorted(sized.items()))

    def _scale(self) -> float:
        """alpha / rank; without an alpha 1."""
        if self.scaling is not None:
            return self.scaling
        rank = self.rank
        return (
            float(self.tensors["alpha"].float().reshape(())) / rank
            if "alpha" in self.tensors and rank
            else 1.0
        )

    def _kronecker(self, parts: Mapping[str, Tensor]) -> Tensor:
        """(w1 ⊗ w2), each of which may be a product of its own."""
        first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
        if "lokr_w2" in parts:
            second = parts["lokr_w2"]
        elif "lokr_t2" in parts:
            second = _core(parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
        else:
            a, b = parts["lokr_w2_a"], parts["lokr_w2_b"]
            second = (a @ b.flatten(1)).reshape(len(a), *b.shape[1:])
        whole = "lokr_w1" in parts and "lokr_w2" in parts
        first = first.reshape(*first.shape, *[1] * (second.ndim - first.ndim))
        return (1.0 if whole else self._scale()) * torch.kron(first, second.contiguous())


def _is_lokr(names: frozenset[str]) -> bool:
    first = "lokr_w1" in names or {"lokr_w1_a", "lokr_w1_b"} <= names
    return first and ("lokr_w2" in names or {"lokr_w2_a", "lokr_w2_b"} <= names)


def _lora(parts: Mapping[str, Tensor]) -> Tensor:
    """B A; of a convolution A is its kernel, or stands before a core with the kernel (CP decomposition)."""
    down, up = parts["down"], parts["up"]
    if "mid" in parts:
        return torch.einsum("op,pqkl,qi->oikl", up.flatten(1), parts["mid"], down.flatten(1))
    return (up.flatten(1) @ down.flatten(1)).reshape(len(up), *down.shape[1:])


def _hadamard(parts: Mapping[str, Tensor]) -> Tensor:
    """(w1a w1b) * (w2a w2b)."""
    if "hada_t1" in parts:
        first = _core(parts["hada_t1"], parts["hada_w1_a"], parts["hada_w1_b"])
        return first * _core(parts["hada_t2"], parts["hada_w2_a"], parts["hada_w2_b"])
    return (parts["hada_w1_a"] @ parts["hada_w1_b"]) * (parts["hada_w2_a"] @ parts["hada_w2_b"])


def _core(core: Tensor, outer: Tensor, inner: Tensor) -> Tensor:
    """A kernel from its core: outputs come in by `outer` (rank, out), inputs by `inner` (rank, in)."""
    return torch.einsum("ijkl,jr,ip->prkl", core, inner, outer)


def _with_magnitude(weight: Tensor, delta: Tensor, magnitude: Tensor) -> Tensor:
    """m (W + Δ) / |W + Δ| (DoRA, arXiv:2402.09353, eq. 5): the norm of each output's row, or, in files of LyCORIS whose
    magnitudes lie along the other axis, of each input's column."""
    directed = weight + delta
    by_output = magnitude.numel() == weight.shape[0] and not (
        magnitude.ndim > 1 and magnitude.shape[0] == 1 and weight.shape[0] != 1
    )
    axis = 0 if by_output else 1
    if magnitude.numel() != weight.shape[axis]:
        raise WeightsError("a magnitude of DoRA has another size than the layer")
    sides = [1] * weight.ndim
    sides[axis] = -1
    norms = directed.transpose(0, axis).flatten(1).norm(dim=1).reshape(sides)
    return magnitude.to(weight.device).reshape(sides) * directed / norms
