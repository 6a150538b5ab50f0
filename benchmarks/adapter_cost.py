"""What an adapter costs in a network call at which it is at work, and in a whole run: python benchmarks/adapter_cost.py

Processor seconds of calls with and without it, taken in turn, medians; so a busy machine does not sway them much.
"""

import argparse
import time
from contextlib import nullcontext
from statistics import median

import torch

from evenreel.adapters.adapter import Adapter
from evenreel.adapters.settings import AdapterSettings, LoraSettings, PromptTokenSettings
from evenreel.adapters.window import Window
from evenreel.backbones import load_backbone
from evenreel.backbones.clip import load_clip

ACTIVE = 950
"""A timestep inside the window."""


def main() -> None:
    """Measure and print one line for each way to use an adapter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clip", default="mini")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=8, help="frames in a call, twice with guidance")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--scope", choices=("down", "all"), default="down")
    told = parser.parse_args()
    torch.manual_seed(0)
    backbone = load_backbone(told.model, device=told.device)
    size = backbone.native_size
    frames = torch.rand(told.frames, 3, size, size)
    clip = load_clip(told.clip, device=told.device)
    hidden, latents = clip.frame_tokens(frames), backbone.encode(frames).repeat(2, 1, 1, 1)
    text = backbone.embed(["blurry", "a red ball"])

    def made(lora: bool, tokens: bool) -> Adapter:
        settings = AdapterSettings(
            lora=LoraSettings(scope=told.scope) if lora else None,
            tokens=PromptTokenSettings() if tokens else None,
        )
        return Adapter.of(backbone, settings, vision_width=hidden.shape[2])

    ways = {
        "without": None,
        "lora, unfused": (made(lora=True, tokens=False), False),
        "lora, fused": (made(lora=True, tokens=False), True),
        "tokens": (made(lora=False, tokens=True), False),
        "both, unfused": (made(lora=True, tokens=True), False),
        "both, fused": (made(lora=True, tokens=True), True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(told.rounds + 1):
        for name, way in ways.items():
            seconds[name].append(_call(backbone, way, hidden, latents, text))
    plain = median(seconds["without"][1:])  # the first round warms up
    window = AdapterSettings().inference_window
    share = len(window.timesteps(1000)) / 1000
    print(f"{told.model}, {2 * told.frames} rows, scope {told.scope}: {1000 * plain:.1f} ms without")
    for name, taken in seconds.items():
        # of calls beside each other, which share what the machine is busy with
        more = median(one / other for one, other in zip(taken[1:], seconds["without"][1:], strict=True)) - 1
        print(f"{name:15} {100 * more:+6.1f} % in the window, {100 * share * more:+5.2f} % of a run")


@torch.inference_mode()
def _call(
    backbone,
    way: tuple[Adapter, bool] | None,
    hidden: torch.Tensor,
    latents: torch.Tensor,
    text: torch.Tensor,
) -> float:
    frames = len(latents) // 2
    adapter, fused = way or (None, False)
    attached = adapter and adapter.attach(backbone, hidden=hidden, window=Window(0.0), fused=fused)
    with attached or nullcontext() as session:
        prefix = session and session.prefix(range(frames), ACTIVE)
        embeds = text
        if prefix is not None:
            rows = [row[None].expand(frames, -1, -1) for row in text]
            embeds = torch.cat([torch.cat([prefix.to(row), row], dim=1) for row in rows])
        # What has just been attached is not in any cache yet.
        backbone.predict_noise(latents[:1], ACTIVE, embeds[:1])
        began = _now(latents.device)
        backbone.predict_noise(latents, ACTIVE, embeds)
        return _now(latents.device) - began


def _now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
