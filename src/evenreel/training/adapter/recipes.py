"""Full settings of adapter trainings under a name: the command line and Python start from the same ones.

settings = recipes.adapter("edits")
longer = dataclasses.replace(settings, loop=dataclasses.replace(settings.loop, steps=5000))
"""

from evenreel.adapters.adapter import AdapterSettings
from evenreel.adapters.lora import LoraSettings
from evenreel.adapters.prompt_tokens import PromptTokenSettings
from evenreel.adapters.window import Window
from evenreel.errors import SettingsError
from evenreel.training.adapter.edits import EditLossSettings
from evenreel.training.adapter.noise import LossSettings
from evenreel.training.adapter.settings import AdapterTrainingSettings
from evenreel.training.loop import LoopSettings


def _edits() -> AdapterTrainingSettings:
    window = Window(0.5, 1.0)
    return AdapterTrainingSettings(
        adapter=AdapterSettings(
            lora=LoraSettings(scope="all"),
            tokens=None,
            training_window=window,
            inference_window=window,
            scale=0.6,
            in_inversion=False,
        ),
        loss=EditLossSettings(window=window, weight_temporal=1.0),
        loop=LoopSettings(steps=2450, learning_rate=3e-4, warmup=60, decay=1.0, accumulation=2),
        pairs=2,
    )


def _noise() -> AdapterTrainingSettings:
    window = Window(0.5, 1.0)
    return AdapterTrainingSettings(
        adapter=AdapterSettings(
            lora=LoraSettings(scope="down"),
            tokens=PromptTokenSettings(shared=8, select="average"),
            training_window=window,
            inference_window=Window(0.9, 1.0),
            scale=0.5,
            in_inversion=True,
        ),
        loss=LossSettings(window=window, weight_temporal=0.1),
        loop=LoopSettings(steps=2000, learning_rate=3e-5, warmup=500, decay=0.0, accumulation=8),
    )


_RECIPES = {"edits": _edits, "noise": _noise}
NAMES = tuple(_RECIPES)
"""`edits`: as measured best (docs/adapter.md). `noise`: as published (arXiv:2501.04606, section 4.1)."""


def adapter(name: str) -> AdapterTrainingSettings:
    """The settings of a recipe. Raises: SettingsError for an unknown name."""
    if name not in _RECIPES:
        raise SettingsError(f"recipe must be one of {', '.join(NAMES)}, got {name[:40]!r}.")
    return _RECIPES[name]()
