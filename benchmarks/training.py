"""Pictures a second, GFLOP/s, and their share of the machine's own matrix products, of what `evenreel train` trains.

    python benchmarks/training.py [--device cuda] [--seconds 5] [--batches 32,128]

Inputs are synthetic and lie on the device, so that nothing but the step is timed. The baseline of each row is the same
step written plainly: float32, as the module comes, without graphs or a measured choice.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from evenreel.adapters.adapter import Adapter
from evenreel.backbones import load_backbone, mini
from evenreel.hosts.base import Prompts
from evenreel.motion.folder import MotionFolder, load_motion
from evenreel.motion.modules import MotionModules
from evenreel.ops.number_types import matmul_rate
from evenreel.training import optimizers
from evenreel.training.adapter import recipes
from evenreel.training.adapter.edits import EditTrainee, PreparedEdit
from evenreel.training.adapter.objective import training_in
from evenreel.training.mini import clip, unet, vae
from evenreel.training.motion.trainee import MotionBatch, MotionTrainee
from evenreel.training.trainee import DTYPES, Eager, Graphed, Trainee, chosen


def unet_case(batch: int, device: torch.device) -> tuple[Trainee, Any, int]:
    """The mini model's UNet, a batch of latents, and how many pictures that is."""
    latents = torch.randn(batch, 4, 16, 16, device=device)
    timesteps = torch.randint(1000, (batch,), device=device)
    embeds = torch.randn(batch, 77, clip.WIDTH, device=device)
    return (
        unet.UNetTrainee(unet.build(clip.WIDTH)),
        unet.NoisyBatch(latents, torch.randn_like(latents), timesteps, embeds),
        batch,
    )


def vae_case(batch: int, device: torch.device) -> tuple[Trainee, Any, int]:
    """The autoencoder, on crops."""
    target = torch.rand(batch, 3, vae.CROP, vae.CROP, device=device) * 2 - 1
    noise = torch.randn(batch, 4, vae.CROP // 8, vae.CROP // 8, device=device)
    return vae.VaeTrainee(vae.build()), vae.CropBatch(target, noise), batch


def motion_case(batch: int, device: torch.device) -> tuple[Trainee, Any, int]:
    """Motion modules in a frozen UNet, on clips of 16 frames."""
    clips = max(1, batch // 16)
    network: Any = unet.build(clip.WIDTH)
    network.to(device)
    latents = torch.randn(clips, 16, 4, 16, 16, device=device)
    timesteps = torch.randint(1000, (clips,), device=device)
    embeds = torch.randn(clips, 77, clip.WIDTH, device=device)
    trainee = MotionTrainee(network, MotionModules.for_unet(network), unet.scheduler().alphas_cumprod)
    return trainee, MotionBatch(latents, torch.randn_like(latents), timesteps, embeds), 16 * clips


def adapter_case(batch: int, device: torch.device) -> tuple[Trainee, Any, int]:
    """An adapter of mini that learns from a step of edits, of groups of 8 frames with motion modules, in their host."""
    backbone, told = load_backbone("mini", device=str(device)), recipes.adapter("edits")
    groups = max(1, batch // 8)
    adapter = Adapter.of(backbone, told.adapter, generator=torch.Generator().manual_seed(0)).to(device)
    modules = load_motion(MotionFolder(mini.MOTION)).to(device)
    # never left: the model is thrown away with the trainee
    trainee = ExitStack().enter_context(training_in(backbone, adapter, told.loss, modules))
    assert isinstance(trainee, EditTrainee), "recipe `edits` learns from them"
    prompts = Prompts(source="a red ball", edit="a blue star")
    source, text, empty = backbone.embed([*prompts, ""]).clone().split(1)
    latents = torch.randn(8 * groups, 4, 16, 16, device=device)
    begun = PreparedEdit(
        slot=0,
        step=0,
        latents=latents,
        answers=torch.randn_like(latents),
        source_text=source.expand(groups, -1, -1),
        text=text.expand(groups, -1, -1),
        negative_text=empty,
        prompts=(prompts,) * groups,
        vision=None,
        guidance_scales=(3.0,) * groups,
        seeds=tuple(range(groups)),
    )
    with torch.no_grad():
        trainee(begun)
    return trainee, replace(begun, step=1), 8 * groups


CASES = {"unet": unet_case, "vae": vae_case, "motion": motion_case, "adapter": adapter_case}


def seconds_of(step: Callable[[], object], device: torch.device, wanted: float) -> float:
    """Seconds of one step, the mean over about `wanted` seconds."""
    for _ in range(2 if device.type == "cpu" else 5):
        step()
    count = 0
    _wait(device)
    started = time.perf_counter()
    while count < 2 or time.perf_counter() - started < wanted:
        step()
        count += 1
        if count % 10 == 0:
            _wait(device)
    _wait(device)
    return (time.perf_counter() - started) / count


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(name: str, batch: int, device: torch.device, wanted: float) -> None:
    """Print a row."""
    module, inputs, pictures = CASES[name](batch, device)
    module.to(device)
    with FlopCounterMode(display=False) as counter:
        module(inputs)[0].backward()
    work = counter.get_total_flops() / 1e9

    def stepped(passing: Any, dtype: str) -> Callable[[], object]:
        parameters = {key: value for key, value in module.named_parameters() if value.requires_grad}
        built = optimizers.build(
            parameters, "muon", weight_decay=0.01, betas=(0.9, 0.99), dtype=DTYPES[dtype]
        )

        def step() -> None:
            for value in parameters.values():
                value.grad = None
            passing(inputs, lambda loss: loss)
            torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            for optimizer in built:
                optimizer.step()

        return step

    plain = seconds_of(stepped(Eager(module, device, "float32"), "float32"), device, wanted)
    choice = chosen(module, inputs, device)
    if choice.attention is not None:
        module.use_attention(choice.attention)
    if device.type == "cuda":
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    ways: dict[str, Any] = {f"{choice.dtype} {choice.attention or ''}": Eager}
    if device.type == "cuda" and module.static:
        ways[f"{choice.dtype} {choice.attention or ''} graph"] = Graphed
    rate = matmul_rate(DTYPES[choice.dtype], device)
    for way, kind in ways.items():
        seconds = seconds_of(stepped(kind(module, device, choice.dtype), choice.dtype), device, wanted)
        memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
        print(
            f"{name:8} {pictures:6} {way:26} {pictures / seconds:10.1f} {work / seconds:10.0f} "
            f"{100 * work / seconds / rate:7.1f}% {plain / seconds:8.2f}x {work / pictures:8.2f} {memory:7.1f}",
            flush=True,
        )


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--batches", default="16")
    parser.add_argument("--cases", default=",".join(CASES))
    told = parser.parse_args()
    device = torch.device(told.device)
    torch.manual_seed(0)
    print(
        f"{'case':8} {'batch':>6} {'way':26} {'pictures/s':>10} {'GFLOP/s':>10} {'share':>8} {'plain':>9} "
        f"{'GFLOP/pic':>8} {'GiB':>6}"
    )
    for name in told.cases.split(","):
        for batch in told.batches.split(","):
            measure(name, int(batch), device, told.seconds)


if __name__ == "__main__":
    main()
