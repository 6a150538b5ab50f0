"""Where the time of an edit went: seconds of its stages, and what the networks computed in each."""

import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from evenreel.backbones import Backbone
from evenreel.backbones.deep_features import is_given
from evenreel.workflows.editing.records.resource_use import Stopwatch

GIGA = 1e9


def _attention(query: Any, key: Any, value: Any, *_: object, **__: object) -> int:
    """Count the operations of attention from the shapes of its parts."""
    return sdpa_flop_count(query, key, value)


ALSO_COUNTED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}  # noqa: SLF001 - an operator
"""The kernel of attention on CPUs, which PyTorch's counter does not know."""


@dataclass
class Computed:
    """What networks did in one stage."""

    calls: int = 0
    """Of the noise predictor, or of a half of the autoencoder."""
    rows: int = 0
    """Latents or frames that passed, one for each branch of guidance and each source."""
    flop: int = 0
    """Floating-point operations: two for each multiplication that is added up."""


@dataclass
class Profile:
    """What was computed between `metered` and now."""

    stopwatch: Stopwatch
    stages: dict[str, Computed] = field(default_factory=dict)
    _flop: dict[object, int] = field(default_factory=dict)
    """By network and shapes that pass through it: each is counted once."""
    _started: float = field(default_factory=time.perf_counter)
    _started_cpu: float = field(default_factory=time.process_time)

    def described(self) -> dict[str, Any]:
        """Describe it for the record. Stages are in the order in which they began; `total` is also what lies between
        them."""
        watch = self.stopwatch
        stages = {
            name: _line(seconds, watch.cpu_seconds.get(name, 0.0), self.stages.get(name, Computed()))
            for name, seconds in watch.seconds.items()
        }
        loading = stages.get("load", {"seconds": 0.0, "cpu_seconds": 0.0})
        every = self.stages.values()
        total = _line(
            time.perf_counter() - self._started + loading["seconds"],
            time.process_time() - self._started_cpu + loading["cpu_seconds"],
            Computed(*(sum(getattr(one, name) for one in every) for name in ("calls", "rows", "flop"))),
        )
        return {"stages": stages, "total": total}

    @contextmanager
    def follow(self, network: nn.Module) -> Generator[None]:
        """Count what passes through a network while inside; the first time of each shape, also its operations."""
        counters: list[tuple[object, FlopCounterMode | None, Computed]] = []

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            name = self.stopwatch.running or "other"
            stage = self.stages.setdefault(name, Computed())
            tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            # a host changes what is computed, so that a shape is counted once in each stage, with deep blocks or not
            shape = (network, name, is_given(network), *(value.shape for value in tensors))
            stage.calls += 1
            stage.rows += len(tensors[0])
            counter = (
                None if shape in self._flop else FlopCounterMode(display=False, custom_mapping=ALSO_COUNTED)
            )
            counters.append((shape, counter, stage))
            if counter is not None:
                counter.__enter__()

        def after(*_: object) -> None:
            shape, counter, stage = counters.pop()
            if counter is not None:
                counter.__exit__(None, None, None)
                self._flop[shape] = counter.get_total_flops()
            stage.flop += self._flop[shape]

        first = network.register_forward_pre_hook(before, with_kwargs=True)
        last = network.register_forward_hook(after, always_call=True)
        try:
            yield
        finally:
            first.remove()
            last.remove()


@contextmanager
def metered(backbone: Backbone, stopwatch: Stopwatch) -> Generator[Profile]:
    """Count while inside. Numbers that the networks give are the same, bit for bit."""
    profile = Profile(stopwatch)
    with stopwatch.stage("load"):
        networks = [backbone.unet]
        if (vae := backbone.vae) is not None:
            networks += [vae.encoder, vae.decoder]
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(profile.follow(network))
        yield profile


def _line(seconds: float, cpu_seconds: float, computed: Computed) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "calls": computed.calls,
        "rows": computed.rows,
        "gflop": round(computed.flop / GIGA, 1),
    }
