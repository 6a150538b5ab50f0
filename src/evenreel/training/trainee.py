"""What a training trains, and how one step of it is computed: in which number type, with which attention kernel."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from evenreel.ops.number_types import matmul_rate, seconds_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HOPELESS = 0.5
"""A number type whose matrix products run below this share of float32's is not tried at all: it can take minutes."""

Draw = Callable[[int], Any]
"""The micro-batch of a number, on the training's device: on a CPU always the same one."""


class Trainee(nn.Module):
    """A module whose forward pass takes a micro-batch and returns (loss, figures).

    Figures are detached tensors of one number each: nothing waits for them until they are written into the log.
    Only parameters that require gradients are trained and saved.
    """

    attentions: ClassVar[tuple[str, ...]] = ()
    """Kernels that `use_attention` knows; the faster one is found by measurement."""
    static: ClassVar[bool] = False
    """Whether a step follows from tensors of fixed shapes alone, so that a GPU can replay it as one graph."""

    def use_attention(self, kind: str) -> None:
        """Compute attention with a kernel of `attentions`."""


@dataclass(frozen=True)
class Choice:
    """How steps are computed, and what was measured."""

    dtype: str
    attention: str | None = None
    seconds: tuple[tuple[str, float], ...] = ()
    """Of one forward and backward pass, by what was tried."""
    told: bool = False
    """Whether the number type was asked for, not found."""
    whole: bool = False
    """Whether weights and activations are in the number type altogether, with float32 masters for the optimizer."""

    def described(self) -> dict[str, Any]:
        """Return the choice as plain values, for the log."""
        return {**asdict(self), "seconds": {name: round(value, 4) for name, value in self.seconds}}


def autocast(device: torch.device, dtype: str) -> AbstractContextManager[Any]:
    """Compute in a number type while inside; the weights stay float32."""
    return torch.autocast(device.type, DTYPES[dtype], enabled=dtype != "float32")


def chosen(module: nn.Module, batch: Any, device: torch.device, dtype: str = "auto") -> Choice:
    """Find the fastest way to compute a step of `module`, from two timed passes each way. Gradients are dropped."""
    attentions: Sequence[str | None] = getattr(module, "attentions", ()) or (None,)
    if device.type == "cuda" and getattr(module, "static", False) and dtype in ("auto", "bfloat16"):
        # Replayed as a graph, which a few plain passes say nothing about: the rates decide. In the number type
        # altogether, a step is a fifth faster than under autocast, which takes every norm to float32 and back.
        rates = {name: matmul_rate(DTYPES[name], device) for name in ("float32", "bfloat16")}
        if dtype == "bfloat16" or rates["bfloat16"] > rates["float32"]:
            seconds = tuple((f"GFLOP in {name}", 1 / rate) for name, rate in rates.items())
            return Choice("bfloat16", attentions[-1], seconds, told=dtype != "auto", whole=True)
    if dtype == "auto":
        dtypes = ["float32", "bfloat16"]
        rates = {name: matmul_rate(DTYPES[name], device) for name in dtypes}
        if rates["bfloat16"] < HOPELESS * rates["float32"]:
            dtypes.remove("bfloat16")
    else:
        dtypes = [dtype]
    if len(dtypes) * len(attentions) == 1:
        return Choice(dtypes[0], attentions[0], told=dtype != "auto")
    measured: dict[tuple[str, str | None], float] = {}
    for name in dtypes:
        for attention in attentions:
            if attention is not None:
                module.use_attention(attention)  # pyright: ignore[reportCallIssue]
            measured[name, attention] = seconds_of(partial(_step, module, batch, device, name), device)
    best = min(measured, key=measured.__getitem__)
    seconds = tuple((" ".join(filter(None, way)), value) for way, value in measured.items())
    return Choice(*best, seconds=seconds, told=dtype != "auto")


def _step(module: nn.Module, batch: Any, device: torch.device, dtype: str) -> None:
    with autocast(device, dtype):
        loss, _ = module(batch)
    loss.backward()
    module.zero_grad(set_to_none=True)


def convert(module: nn.Module, dtype: torch.dtype) -> None:
    """Convert parameters, and the buffers of submodules, to a number type; the trainee's own buffers keep theirs."""
    for value in module.parameters():
        value.data = value.data.to(dtype)
    for child in module.children():
        for buffer in child.buffers():
            if buffer.is_floating_point():
                buffer.data = buffer.data.to(dtype)


class Eager:
    """A forward and backward pass, computed as it is written, with matrix products in a number type."""

    def __init__(self, module: nn.Module, device: torch.device, dtype: str) -> None:
        self._module, self._device, self._dtype = module, device, dtype

    def __call__(self, batch: Any, scale: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradients are added to what is there; the loss and figures come back as they are. `scale`: of the loss."""
        with autocast(self._device, self._dtype):
            loss, figures = self._module(batch)
        scale(loss).backward()
        return loss.detach(), figures


class Graphed:
    """The same as CUDA graphs, one for each set of shapes: a step of small layers no longer waits for Python.

    Batches are named tuples of tensors. Gradients are not added up: each pass sets them.
    """

    def __init__(self, module: nn.Module, device: torch.device, dtype: str) -> None:
        self._module, self._device, self._dtype = module, device, dtype
        self._parameters = [value for value in module.parameters() if value.requires_grad]
        self._graphs: dict[tuple[torch.Size, ...], _Graph] = {}

    def __call__(self, batch: Any, scale: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """As of `Eager`."""
        shapes = tuple(tensor.shape for tensor in batch)
        if shapes not in self._graphs:
            self._graphs[shapes] = self._captured(batch, scale)
        graph = self._graphs[shapes]
        for held, tensor in zip(graph.batch, batch, strict=True):
            held.copy_(tensor, non_blocking=True)
        graph.graph.replay()
        for value, gradient in zip(self._parameters, graph.gradients, strict=True):
            value.grad = gradient
        return graph.loss, graph.figures

    def _captured(self, batch: Any, scale: Callable[[Tensor], Tensor]) -> "_Graph":
        held = type(batch)(*(tensor.clone() for tensor in batch))
        eager = Eager(self._module, self._device, self._dtype)
        aside = torch.cuda.Stream(self._device)
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._drop()
                eager(held, scale)
        torch.cuda.current_stream(self._device).wait_stream(aside)
        self._drop()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss, figures = eager(held, scale)
        return _Graph(graph, held, loss, figures, [value.grad for value in self._parameters])

    def _drop(self) -> None:
        for value in self._parameters:
            value.grad = None


@dataclass(frozen=True)
class _Graph:
    graph: Any
    batch: Any
    loss: Tensor
    figures: dict[str, Tensor]
    gradients: list[Tensor | None]
