"""Where to compute, and in which number type."""

import torch

from evenreel.errors import SettingsError
from evenreel.ops.number_types import is_slow, rate_text

MIXED = "mixed"
"""The name of float32 with the noise predictor's convolutions and matrix products in bfloat16."""
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Return the device of a name; None and `auto` mean a GPU where there is one. Raises: SettingsError."""
    if device is None or device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise SettingsError(f"device must be auto, cpu, cuda, cuda:1 or mps, got {device!r}.") from error
    missing = (
        (chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count())
        or (chosen.type == "mps" and not torch.backends.mps.is_available())
        or chosen.type not in ("cpu", "cuda", "mps")
    )
    if missing:
        raise SettingsError(f"device {device} is not available here; use auto or cpu.")
    return chosen


def choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """Return the number type of a name; None and `auto`: float16 on CUDA, else float32.

    A name is refused where its type is slower than float32, which is measured; `mixed` is float32, and is refused as
    bfloat16 is. `torch.bfloat16` itself insists.

    Raises: SettingsError.
    """
    if dtype is None or dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if dtype == MIXED:
        choose_dtype("bfloat16", device)
        return torch.float32
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in DTYPES.values():
        raise SettingsError(f"dtype must be one of auto, {', '.join(DTYPES)}, {MIXED}, got {dtype!r}.")
    if isinstance(dtype, str) and is_slow(chosen, device):
        raise SettingsError(
            f"dtype {dtype} is slow on this {'processor' if device.type == 'cpu' else 'device'}, "
            f"{rate_text(chosen, device)} against {rate_text(torch.float32, device)} in float32; use float32."
        )
    return chosen
