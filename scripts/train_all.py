"""Train what an edit with the packaged model needs, within a time limit, from the packaged weights on.

    scripts/train-all --minutes 9 --device cuda --out DIR      # UNet and motion modules together, an adapter, a report
    scripts/train-all --minutes 9 --controls control --out DIR # and one ControlNet for depth, edges and poses
    scripts/train-all --minutes 1 --device cpu --out DIR       # the same in small, to rehearse it
    scripts/train-all --join DIR --model FOLDER                # what DIR holds, as a model to look at and measure

Made for a machine that is lent for minutes and keeps nothing: it begins with a smoke test of every part, writes what it
has learnt every minute (weights in files of less than 16 MiB with checksums, `parcel.json`), and the report last. Needs
neither PyAV nor a network.
"""

import argparse
import json
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch

from evenreel.adapters.window import Window
from evenreel.backbones import load_backbone
from evenreel.files import write_atomically
from evenreel.motion.attach import motion_attached
from evenreel.motion.folder import load_motion, save_motion
from evenreel.motion.modules import MotionModules
from evenreel.training import parcels
from evenreel.training.loop import Training
from evenreel.training.loop_settings import LoopSettings
from evenreel.training.mini import control, samples
from evenreel.training.mini.adapter import settings_for, world_adapter
from evenreel.training.mini.pack import write_sums
from evenreel.training.mini.parts import MiniTraining
from evenreel.training.mini.recipe import EDITS_FROM, MiniRecipe, PartRecipe
from evenreel.training.mini.scene_data import SceneData
from evenreel.training.mini.start import StartFolder
from evenreel.training.trainee import Draw

PACKAGED = Path(__file__).resolve().parents[1] / "src" / "evenreel" / "weights" / "mini"
PREFIXES = {
    "unet": {"unet": "unet."},
    "motion": {"unet": "unet.", "motion": "modules_trained."},
    **{name: {name: "net."} for name in control.PARTS},
}
"""By what is trained: how the weights' names begin of each model that it gives."""
SHARES = {"unet": 0.2, "motion": 0.7, "adapter": 0.22}
"""Of the time; the rest is for the start and the report. The UNet learns with `motion`; by itself only where told."""


class Clock:
    """What is left of the time that was given."""

    def __init__(self, minutes: float) -> None:
        self.seconds, self.begun = 60 * minutes, time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begun

    def say(self, text: str) -> None:
        """A line with the time."""
        print(f"[{self.spent:6.1f} s] {text}", flush=True)


def recipe_for(device: str, scale: float, told: argparse.Namespace) -> MiniRecipe:
    """Large batches and scenes that come as they are rendered on a GPU; a rehearsal's sizes on a CPU."""
    large = device.startswith("cuda")
    long = large or told.minutes > 20
    scenes = (
        SceneData(count=told.scenes, begin=8192) if large else SceneData(count=told.drawn, begin=told.drawn)
    )
    clips = SceneData(count=25_600, begin=1024, frames=16, strides=(1, 1, 2), chunk=16)
    if not large:
        clips = replace(clips, count=told.filmed, begin=told.filmed)
    edits = SceneData(count=8192, begin=64, frames=16, captions=2, chunk=8, edited=True, first=EDITS_FROM)
    if not large:
        edits = replace(edits, count=told.edited, begin=told.edited)
    loop = LoopSettings(
        minutes=1.0,
        learning_rate=told.rate,
        warmup=100 if long else 2,
        decay=0.3,
        optimizer=told.optimizer,
        betas=(0.9, 0.99),
        average=0.998 if long else 0.5,
        checkpoint_seconds=60.0,
    )
    parts = MiniRecipe().parts
    for name, batch in (
        ("unet", told.batch if large else 8),
        ("motion", told.clips if large else min(2, told.clips)),
    ):
        minutes = SHARES[name] * scale
        parts[name] = PartRecipe(loop=replace(loop, minutes=minutes), batch=batch, seed=told.seed)
    for name in told.controls:
        timed = replace(loop, minutes=told.control_seconds / 60, warmup=50 if long else 2, decay=0.4)
        parts[name] = PartRecipe(
            loop=timed, batch=told.batch if large else min(24, told.batch), seed=told.seed
        )
    clips = replace(clips, controls=large and bool(told.controls))  # of which the most are rendered
    return MiniRecipe(parts=parts, scenes=scenes, clips=clips, edits=edits, joint=True)


def export(training: Training, out: Path) -> None:
    """The averaged weights so far."""
    for name, prefix in PREFIXES[training.name].items():
        tensors = {
            key.removeprefix(prefix): value
            for key, value in training.averaged.items()
            if key.startswith(prefix)
        }
        if tensors:
            parcels.pack(tensors, out, name)


def followed(
    training: Training, draw: Draw, rows: int, clock: Clock, save: Callable[[], None], scenes: MiniTraining
) -> None:
    """Train to the end: a line every ten seconds, what was learnt every minute. `rows`: pictures of a step."""
    saved = said = time.monotonic()
    seen = 0
    for step, figures in training.run(draw):
        if not figures:
            continue
        now = time.monotonic()
        if now - said > 10 or step <= 20:
            ready = [f"{data.frames}: {made.ready}" for data, made in scenes._scenes.items()]
            told = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            speed = (step - seen) * rows / (now - said)
            clock.say(
                f"{training.name} {step}/{training.length}: {told}; {speed:.0f} a second; scenes {ready}"
            )
            said, seen = now, step
        if now - saved > 60:
            save()
            saved = now
    save()
    choice = training.choice and training.choice.described()
    print(json.dumps({"part": training.name, "steps": training.step, "choice": choice}), flush=True)


def train(mini: MiniTraining, part: str, out: Path, clock: Clock) -> None:
    """One part, exported every minute and at its end."""
    training, recipe = mini.training(part), mini.recipe
    rows = recipe.parts[part].batch
    if part == "motion":
        rows = rows * recipe.clips.frames + (recipe.parts["unet"].batch if recipe.joint else 0)
    draw = mini.draw(part, training.module, following=recipe.edits if part == "motion" else None)
    clock.say(f"{part}: begins with {next(iter(mini._scenes.values())).ready} scenes")
    followed(training, draw, rows, clock, lambda: export(training, out), mini)


def train_adapter(
    mini: MiniTraining, out: Path, scratch: Path, told: argparse.Namespace, clock: Clock
) -> None:
    """An adapter for what was trained so far."""
    joined(out, told.start, scratch / "model")
    backbone = load_backbone(str(scratch / "model"), device=str(mini.device), dtype="float32")
    modules = load_motion(scratch / "model-motion").to(mini.device)
    large = mini.device.type == "cuda"
    loop = LoopSettings(
        minutes=(SHARES["adapter"] if "motion" in told.parts else 1.0) * told.minutes,
        learning_rate=told.adapter_rate,
        warmup=30 if large or told.minutes > 20 else 1,
        decay=0.6,
        average=0.99 if told.minutes > 20 else 0.98 if large else 0.5,
        dtype="float32" if large else "auto",
    )
    settings = settings_for(loop, rank=told.rank, window=Window(told.window, 1.0), seed=told.seed)
    scenes = mini.scenes(mini.recipe.edits)
    batch = told.edits if large else min(2, told.edits)
    made = world_adapter(backbone, modules, scenes, settings, scratch, mini.processes, batch=batch)
    with made as adapter:
        clock.say(f"adapter: begins with {scenes.ready} scenes")
        path = out / "adapter.safetensors"
        rows = batch * scenes.data.shown
        followed(adapter.training, adapter.draw, rows, clock, lambda: adapter.save(path, backbone), mini)


def report(mini: MiniTraining, out: Path, count: int, clock: Clock) -> None:
    """How often unseen captions are drawn right, before and after; drawings for people to look at."""
    device = mini.device
    fast = mini._fast
    start = mini.start
    assert start is not None
    judge = start.load("judge", mini._built("judge")).to(device).eval()
    vae = start.load("vae", mini._built("vae")).to(device).eval()
    text, scenes = mini.text_encoder(), samples.held_out(count)
    prompts = samples.captions_for(scenes)
    networks = {
        "before": start.load("unet", mini._built("unet")).to(device).eval(),
        "after": mini.finished("unet"),
    }
    figures = {}
    for name, network in networks.items():
        told = {"guidance_scale": 4.0, "dtype": fast}
        pictures = torch.cat(
            [
                samples.drawn(network, text, vae, prompts[i : i + 250], seed=i, **told)
                for i in range(0, count, 250)
            ]
        )
        figures[name] = samples.shown_right(judge, pictures, scenes)
        clock.say(f"text to image, {name}, {count} prompts: {figures[name]}")
        sheet(pictures[:64].cpu(), out / f"drawings-{name}.png", 16)
    (out / "report.json").write_text(json.dumps(figures, indent=1))
    network = networks["after"]
    frames = mini.recipe.clips.frames
    with motion_attached(network, mini.finished("motion"), frames):
        clips = samples.drawn(network, text, vae, prompts[:8], frames=frames, guidance_scale=4.0, dtype=fast)
    sheet(clips.cpu(), out / "clips.png", frames)


def control_report(mini: MiniTraining, part: str, out: Path, count: int, clock: Clock) -> None:
    """How closely drawings of unseen captions follow maps of other scenes, with the ControlNet and without."""
    start = mini.start
    assert start is not None
    vae = start.load("vae", mini._built("vae")).to(mini.device).eval()
    networks = (mini.finished(part), mini.finished("unet"), mini.text_encoder(), vae)
    figures, pictures = control.followed(*networks, control.PARTS[part], count, dtype=mini._fast)
    clock.say(f"{part}: {figures}")
    (out / f"{part}.json").write_text(json.dumps(figures, indent=1))
    sheet(pictures, out / f"{part}.png", 16)


def sheet(pictures: torch.Tensor, path: Path, columns: int) -> None:
    """Pictures side by side, row by row, as one PNG."""
    from PIL import Image

    rows = [torch.cat(list(row), dim=2) for row in pictures.split(columns) if len(row) == columns]
    whole = torch.cat(rows, dim=1) if rows else torch.cat(list(pictures), dim=2)
    Image.fromarray((whole.movedim(0, -1) * 255).round().byte().numpy()).save(path)


def join(told: argparse.Namespace) -> None:
    """Put weights that were brought back into a copy of the packaged model, with motion modules beside it."""
    model = Path(told.model)
    joined(told.join, PACKAGED, model)
    record(told.join, model)
    write_sums(model)
    for part in control.PARTS:
        if (told.join / f"{part}.0").exists():
            net = control.build(_unet())
            net.load_state_dict(parcels.joined(told.join, part))
            net.half().save_pretrained(model.with_name(f"{model.name}-{part}"), safe_serialization=True)
    print(f"{model} is ready")


def joined(parts: Path, start: Path, model: Path) -> None:
    """A copy of the model `start` with the weights that lie in `parts`; motion modules beside it."""
    shutil.copytree(
        start, model, dirs_exist_ok=True, ignore=shutil.ignore_patterns("README.md", "report.json")
    )
    network = StartFolder(start).load("unet", _unet())
    if (parts / "unet.0").exists():
        network.load_state_dict(parcels.joined(parts, "unet"))
    network.half().save_pretrained(model / "unet", safe_serialization=True)
    write_sums(model)
    beside = model.with_name(f"{model.name}-motion")
    shutil.copytree(start.with_name(f"{start.name}-motion"), beside, dirs_exist_ok=True)
    if (parts / "motion.0").exists():
        modules = MotionModules.for_unet(_unet())
        modules.load_state_dict(modules.state_dict() | parcels.joined(parts, "motion"))
        save_motion(modules, beside, torch.float16)


def record(folder: Path, model: Path) -> None:
    """Put what the logs say of the training into the model's own record, with what it went on from."""
    path = model / "training.json"
    made = json.loads(path.read_text(encoding="utf-8"))
    with zipfile.ZipFile(folder / "report.zip") as report:
        for part in (part for part in ("unet", "motion") if f"{part}.log.jsonl" in report.namelist()):
            lines = [json.loads(line) for line in report.read(f"{part}.log.jsonl").decode().splitlines()]
            begun, ended = lines[0], lines[-1]
            made["parts"][part] = {
                **begun["settings"],
                "seed": begun["seed"],
                "steps": ended["step"],
                "seconds": round(ended["seconds"]),
                "device": begun["device"],
                "choice": begun["choice"],
                "from": made["parts"].get(part),
            }
    write_atomically(path, json.dumps(made, indent=2) + "\n")


def _unet() -> torch.nn.Module:
    from evenreel.training.mini import clip, unet

    return unet.build(clip.WIDTH)


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("runs/train-all"))
    parser.add_argument("--scratch", type=Path, default=None, help="where states go (default: beside --out)")
    parser.add_argument("--start", type=Path, default=PACKAGED, help="the model to go on from")
    parser.add_argument("--parts", default="motion,adapter", help="of unet, motion (with the UNet), adapter")
    parser.add_argument("--batch", type=int, default=256, help="pictures of a step")
    parser.add_argument("--clips", type=int, default=32, help="clips of a step")
    parser.add_argument("--edits", type=int, default=16, help="edits of a step of the adapter")
    parser.add_argument(
        "--edited", type=int, default=8, help="edited scenes that are rendered first, on a CPU"
    )
    parser.add_argument("--drawn", type=int, default=128, help="pictures that are rendered first, on a CPU")
    parser.add_argument("--filmed", type=int, default=16, help="clips that are rendered first, on a CPU")
    parser.add_argument("--optimizer", default="muon", help="of UNet and motion modules: muon or adamw")
    parser.add_argument("--rank", type=int, default=16, help="of the adapter")
    parser.add_argument(
        "--window", type=float, default=0.3, help="noise level from which on the adapter works"
    )
    parser.add_argument("--adapter-rate", type=float, default=6e-4)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--scenes", type=int, default=262_144)
    parser.add_argument("--controls", nargs="*", default=[], choices=control.PARTS, metavar="PART")
    parser.add_argument("--control-seconds", type=float, default=35.0, help="of training, for each of them")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--join", type=Path, default=None)
    parser.add_argument("--model", default="runs/train-all/model")
    told = parser.parse_args()
    if told.join is not None:
        join(told)
        return
    torch.set_num_threads(1 if told.device == "cpu" else 4)
    clock = Clock(told.minutes)
    told.out.mkdir(parents=True, exist_ok=True)
    scratch = told.scratch or told.out / "states"
    shutil.rmtree(scratch, ignore_errors=True)  # a new run: what the last one learnt is in --start
    extras = scratch / "report"
    extras.mkdir(parents=True)
    mini = MiniTraining(
        scratch,
        recipe=recipe_for(told.device, told.minutes, told),
        device=told.device,
        start=StartFolder(told.start),
    )
    clock.say(f"{torch.__version__} on {mini.device}")
    try:
        for part in (*filter(None, told.parts.split(",")), *told.controls):
            if part == "adapter":
                train_adapter(mini, told.out, scratch, told, clock)
            else:
                train(mini, part, told.out, clock)
        for part in told.controls:
            control_report(mini, part, extras, 64 if told.device != "cpu" else 2, clock)
        report(mini, extras, told.prompts if told.device != "cpu" else 8, clock)
    finally:
        mini.close()
        for log in scratch.glob("*.jsonl"):
            shutil.copy(log, extras)
        # one file, as a lent machine gives few of them back
        shutil.make_archive(str(told.out / "report"), "zip", extras)
    clock.say("done")
