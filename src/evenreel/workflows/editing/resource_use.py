"""Seconds per stage and peak memory, for the record of a run."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import torch


@dataclass
class Stopwatch:
    """Adds up wall-clock seconds under the names of stages."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside, also when it fails; a name met again is added to."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # kernels run on after Python has moved on
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def peak_process_bytes() -> int | None:
    """The most memory this process has held so far; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return getattr(psutil.Process().memory_info(), "peak_wset", None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes(device: torch.device) -> int | None:
    """The most memory PyTorch has held on a CUDA device since `reset_device_peak`; None on other devices."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def reset_device_peak(device: torch.device) -> None:
    """Start `peak_device_bytes` afresh."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
