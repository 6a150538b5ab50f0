"""The embedded model, made from nothing or from a finished one: every part in its order, resumable, then packed."""

from collections.abc import Sequence
from pathlib import Path

from evenreel.errors import SettingsError
from evenreel.files import make_folder
from evenreel.training.mini.pack import pack
from evenreel.training.mini.parts import MiniTraining, Progress
from evenreel.training.mini.recipe import MiniRecipe
from evenreel.training.mini.settings import TRAINED
from evenreel.training.mini.start import StartFolder


def train_mini(
    folder: Path,
    parts: Sequence[str] | None = None,
    *,
    recipe: MiniRecipe | None = None,
    device: str = "auto",
    start: Path | None = None,
    progress: Progress = lambda *_: None,
) -> Path | None:
    """Train parts of the mini model in `folder`, going on where a run was cut.

    The whole model is packed in `folder/model`, whose path is returned; None as long as parts are missing. `start`: the
    folder of a finished model to go on from.

    Raises OutputError for a folder that cannot be made, SettingsError for an unknown part, one whose inputs are not
    trained yet, or a device that is not there; WeightsError for a model of another layout to start from;
    FloatingPointError when a loss is not finite (the last good state is kept).
    """
    recipe = recipe or MiniRecipe()
    parts = TRAINED if parts is None else parts
    if unknown := [part for part in parts if part not in recipe.parts]:
        raise SettingsError(
            f"no such part of the mini model: {', '.join(unknown)}; there are {', '.join(recipe.parts)}."
        )
    make_folder(folder)
    training = MiniTraining(
        folder,
        recipe=recipe,
        device=device,
        start=None if start is None else StartFolder(start),
        progress=progress,
    )
    try:
        training.run([part for part in recipe.parts if part in parts])
        if training.complete and training.processes.is_main:
            return pack(training, folder / "model")
    finally:
        training.close()
    return None
