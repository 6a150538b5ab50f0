"""One process, or several that `accelerate launch` or `torchrun` started: gradients are averaged, the first writes."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from evenreel.backbones.devices import choose_device


class Processes:
    """All processes of a training, and which of them this one is."""

    def __init__(self, device: str | torch.device = "auto") -> None:
        """Raises: SettingsError for a device that is not there."""
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self._state: Any = None
        if self.count == 1:
            self.index, self.device = 0, choose_device(device)
            return
        from accelerate import PartialState  # takes a while; not needed by one process

        self._state = PartialState(cpu=str(device) == "cpu")
        self.count, self.index = self._state.num_processes, self._state.process_index
        self.device = self._state.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.index == 0

    def share(self, module: nn.Module) -> nn.Module:
        """Return the module with gradients averaged over all processes."""
        if self.count == 1:
            return module
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=ids)

    def apart(self, module: nn.Module) -> AbstractContextManager[None]:
        """Add gradients up without averaging them over processes, while inside."""
        return nullcontext() if self.count == 1 else module.no_sync()  # pyright: ignore[reportCallIssue]

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes."""
        if self.count == 1:
            return value
        torch.distributed.all_reduce(value)
        return value / self.count

    def agreed(self, value: Any) -> Any:
        """Return what the first process says, on all of them: clocks differ."""
        if self.count == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values, src=0)
        return values[0]
