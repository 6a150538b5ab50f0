"""Training motion modules on shards, from its settings to a folder; stopped at any moment, it goes on where it was."""

from pathlib import Path

import torch
from torch import Tensor

from evenreel.backbones import Backbone, load_backbone
from evenreel.backbones.sharing import exclusive
from evenreel.errors import SettingsError
from evenreel.files import make_folder
from evenreel.motion.folder import load_motion, save_motion
from evenreel.motion.modules import MotionModules
from evenreel.progress import Progress, silent
from evenreel.training.data.encoded import Encoded
from evenreel.training.data.shards import ShardedData
from evenreel.training.loop import Training
from evenreel.training.motion.draws import ClipDraws
from evenreel.training.motion.settings import MotionTrainingSettings
from evenreel.training.motion.trainee import MotionTrainee
from evenreel.training.processes import Processes
from evenreel.workflows.editing.additions.motion import folder_of
from evenreel.workflows.training.going_on import check_fits, check_same

NAME = "motion"


def train_motion(
    data: Path, out: Path, settings: MotionTrainingSettings, *, progress: Progress = silent
) -> Path:
    """Train on the shards in `data`; states, logs and at the end the folder `out`/motion, whose path is returned.

    Started by `accelerate launch`, all processes share the work. Raises: SettingsError, DataError, WeightsError,
    OutputError; FloatingPointError when the loss is not finite, with the last good state kept.
    """
    make_folder(out)
    shards = ShardedData(data)
    backbone = load_backbone(settings.model, device=settings.device, dtype="float32")
    check_fits(shards, backbone)
    check_epsilon(backbone)
    with exclusive(backbone.unet, training=True):
        modules = _modules(backbone, settings)
        settings.check_frames(shards.settings.frames, modules.max_frames)
        trainee = MotionTrainee(backbone.unet, modules, levels_of(backbone))
        try:
            return _train(trainee, modules, shards, out, settings, backbone, progress)
        finally:
            trainee.detach()


def _train(
    trainee: MotionTrainee,
    modules: MotionModules,
    shards: ShardedData,
    out: Path,
    settings: MotionTrainingSettings,
    backbone: Backbone,
    progress: Progress,
) -> Path:
    draw = ClipDraws(
        lambda number: shards.batch(number, settings.clips, seed=settings.seed),
        Encoded(backbone, None, limit=settings.cache_bytes),
        settings,
    )
    processes = Processes(settings.device)
    harmless = ("device", "cache_bytes")
    check_same(out, NAME, settings, shards, harmless=harmless, write=processes.is_main)
    training = Training(NAME, trainee, settings.loop, out, processes=processes, seed=settings.seed)
    progress("train motion", training.step, training.length)
    for step, figures in training.run(draw):
        told = ", ".join(f"{name} {figures[name]:.4f}" for name in ("loss", "mse") if name in figures)
        progress(f"train motion: {told}" if told else "train motion", step, training.length)
    if processes.is_main:
        training.trained()
        save_motion(modules, out / NAME)
    return out / NAME


def check_epsilon(backbone: Backbone, what: str = "motion modules") -> None:
    """Raise SettingsError unless a model predicts noise, as those of SD 1.x do; `what` is trained for it."""
    if (found := backbone.schedule.prediction_type) != "epsilon":
        raise SettingsError(
            f"{what} are trained for models that predict noise (epsilon), and {backbone.name} predicts {found}."
        )


def levels_of(backbone: Backbone) -> Tensor:
    """Return the model's noise schedule, as a trainee takes it."""
    return torch.tensor(backbone.schedule.alphas_cumprod)


def _modules(backbone: Backbone, settings: MotionTrainingSettings) -> MotionModules:
    """New ones, or those to go on from."""
    if settings.start is not None:
        modules = load_motion(folder_of(settings.start)).to(backbone.device)
        modules.places(backbone.unet)  # made for another model?
        return modules
    return MotionModules.for_unet(
        backbone.unet,
        max_frames=settings.max_frames,
        use_motion_mid_block=settings.middle,
        seed=settings.seed,
    )
