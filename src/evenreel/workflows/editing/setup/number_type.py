"""Whether the noise predictor computes in bfloat16 on a CPU: where a short measurement says that it is clearly faster.

The answer is kept in the cache, so that the same edit is computed the same way again, and is not measured twice.
"""

import hashlib
import json
import platform
from typing import Any

import torch

from evenreel.backbones import Backbone
from evenreel.backbones.stable_diffusion import StableDiffusion
from evenreel.errors import OutputError
from evenreel.files import write_atomically
from evenreel.jobs import places
from evenreel.ops.number_types import matmul_rate, seconds_of

CLEARLY = 1.2
"""How many times faster it must be."""
LITTLE = 5_000_000
"""Parameters of a noise predictor below which there is nothing to gain. Such a model is not measured: its calls are so
short that what else the machine does would decide."""
ENOUGH = 1.0
"""Seconds that a measured call should take: of few rows, what each layer takes at least would hide the difference."""
BRANCHES = 3
"""Rows of each frame in a guided edit: source, negative prompt, prompt."""
FILE = "number-types.json"


def choose(backbone: Backbone, batch: int) -> None:
    """Let a float32 model on a CPU be `mixed` where that pays in calls with `batch` frames."""
    if (
        isinstance(backbone, StableDiffusion)
        and backbone.device.type == "cpu"
        and backbone.dtype == torch.float32
        and sum(each.numel() for each in backbone.unet.parameters()) >= LITTLE
        and matmul_rate(torch.bfloat16) >= CLEARLY * matmul_rate(torch.float32)
    ):
        backbone.mixed = pays(backbone, BRANCHES * batch)


def pays(backbone: StableDiffusion, rows: int) -> bool:
    """Tell whether calls with so many rows are clearly faster, as known from an earlier run or measured now."""
    path, key = places.root() / FILE, _key(backbone, rows)
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = None
    known = known if isinstance(known, dict) else {}
    seconds = known.get(key)
    if not (
        isinstance(seconds, list) and len(seconds) == 2 and all(isinstance(one, float) for one in seconds)
    ):
        seconds = measured(backbone, rows)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({**known, key: seconds}, indent=1))
        except (OSError, OutputError):
            pass  # it is measured again next time
    plain, mixed = seconds
    return plain > CLEARLY * mixed


@torch.inference_mode()
def measured(backbone: StableDiffusion, rows: int) -> list[float]:
    """Measure seconds of a network call in float32 and in mixed precision, with `rows` rows, or fewer of a large
    model."""
    prompt, device = backbone.embed([""]), backbone.device
    side, channels = backbone.unet.config.sample_size, backbone.unet.config.in_channels
    sides = (side, side) if isinstance(side, int) else side

    def seconds(rows: int, *, mixed: bool) -> float:
        latents = torch.zeros(rows, channels, *sides)
        backbone.mixed = mixed
        return seconds_of(lambda: backbone.predict_noise(latents, 0, prompt), device)

    was = backbone.mixed
    try:
        one = seconds(1, mixed=False)
        few = max(1, min(rows, int(ENOUGH / one)))
        return [seconds(few, mixed=mixed) for mixed in (False, True)]
    finally:
        backbone.mixed = was


def _key(backbone: StableDiffusion, rows: int) -> str:
    """Name what the answer depends on."""
    decides: list[Any] = [backbone.fingerprint, rows, torch.__version__, torch.get_num_threads()]
    decides += [platform.node(), platform.processor(), torch.backends.cpu.get_cpu_capability()]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]
