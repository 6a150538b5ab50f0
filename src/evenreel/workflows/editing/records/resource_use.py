"""Seconds per stage and peak memory, for the record of a run."""

import sys
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import psutil
import torch

Item = TypeVar("Item")


@dataclass
class Stopwatch:
    """Adds up seconds under the names of stages."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    """Of the clock."""
    cpu_seconds: dict[str, float] = field(default_factory=dict[str, float])
    """Of all processors that the process kept busy."""
    running: str | None = None
    """The stage at hand; None between stages."""
    _since: tuple[float, float] = (0.0, 0.0)

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Time what happens inside, also when it fails; a name met again is added to.

        A stage inside another is not a part of it: the outer one waits.
        """
        self._add()
        outer, self.running = self.running, name
        try:
            yield
        finally:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # kernels run on after Python has moved on
            self._add()
            self.running = outer

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items, and time under the name of a stage how long each was waited for."""
        rest = iter(items)
        while True:
            with self.stage(name):
                item = next(rest, None)
            if item is None:
                return
            yield item

    def so_far(self) -> dict[str, float]:
        """Return seconds of the clock by stage, those of the stage at hand among them, to the millisecond."""
        self._add()
        return {stage: round(seconds, 3) for stage, seconds in self.seconds.items()}

    def _add(self) -> None:
        """Give the stage at hand its time since the last call."""
        since, since_cpu = self._since
        self._since = now, now_cpu = time.perf_counter(), time.process_time()
        if self.running is not None:
            self.seconds[self.running] = self.seconds.get(self.running, 0.0) + now - since
            self.cpu_seconds[self.running] = self.cpu_seconds.get(self.running, 0.0) + now_cpu - since_cpu


def peak_process_bytes() -> int | None:
    """Return the most memory this process has held so far; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return getattr(psutil.Process().memory_info(), "peak_wset", None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes(device: torch.device) -> int | None:
    """Return the most memory PyTorch has held on a CUDA device since `reset_device_peak`; None on other devices."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def reset_device_peak(device: torch.device) -> None:
    """Start counting anew for `peak_device_bytes`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
