"""Running out of memory, said as advice."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

from evenreel.backbones.devices import choose_device, choose_dtype
from evenreel.errors import ResourceError, argument
from evenreel.ops.number_types import is_slow

BATCH_IS_MEMORY = ("frame", "text2video_zero")
"""Hosts with which the result does not depend on which frames pass together."""


@contextmanager
def memory_errors_explained(
    host: str | None = None, inversion: str | None = None, dtype: str = "auto", device: str = "auto"
) -> Generator[None]:
    """Turn running out of memory into advice: for a run of `host`, if there is one, with these settings."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ResourceError(_out_of_memory(host, inversion, dtype, device)) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error) and "not enough memory" not in str(error):
            raise
        raise ResourceError(_out_of_memory(host, inversion, dtype, device)) from error


def _out_of_memory(host: str | None, inversion: str | None, dtype: str, device: str) -> str:
    if host is None:
        return f"memory ran out; use fewer {argument('frames')}."
    ways = [f"a smaller {argument('size')}", f"fewer {argument('frames')}"]
    if dtype in ("auto", "float32"):
        chosen = choose_device(device)
        in_four_bytes = choose_dtype(dtype, chosen) is torch.float32
        if in_four_bytes and not is_slow(torch.bfloat16, chosen):
            ways.append(f"{argument('dtype')} bfloat16")
    batch = f"a smaller {argument('batch')}"
    others = f"{', '.join(ways[:-1])}, or {ways[-1]}"
    if host in BATCH_IS_MEMORY and inversion != "bilateral":
        return (
            f"memory ran out; use {batch}, which leaves the result as it is, or, for another one, {others}."
        )
    return f"memory ran out; use {batch}, {others}, each of which may change the result."
