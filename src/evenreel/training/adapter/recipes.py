"""Full settings of adapter trainings under a name: the command line and Python start from the same ones.

    settings = recipes.adapter("edits", steps=5000, rank=8)

is what `evenreel train adapter --recipe edits --steps 5000 --rank 8` trains.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from evenreel.adapters.settings import AdapterSettings, LoraSettings, PromptTokenSettings
from evenreel.adapters.window import Window
from evenreel.errors import SettingsError, argument
from evenreel.settings.changes import changed, options
from evenreel.training.adapter.settings import AdapterTrainingSettings, EditLossSettings, LossSettings
from evenreel.training.loop_settings import LoopSettings


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


def _published() -> AdapterTrainingSettings:
    """As printed: Eq. 2 to 6 and 13 to 20."""
    ours = _noise()
    loss = LossSettings(
        temporal="frames",
        weight_temporal=1.0,
        weight_diffusion=0.01,
        noise_levels=Window(0.0, 1.0),
        unconditional=0.0,
    )
    return replace(ours, loss=loss)


def _published_code() -> AdapterTrainingSettings:
    """As the authors' code has it, but for the temporal loss of a single pair, which has no gradient there."""
    ours = _noise()
    adapter = replace(
        ours.adapter, lora=LoraSettings(scope="all"), tokens=PromptTokenSettings(shared=4, select="stride")
    )
    loss = LossSettings(
        temporal="noise-levels",
        weight_temporal=0.01,
        weight_diffusion=1.0,
        noise_levels=Window(0.0, 1.0),
        unconditional=0.0,
    )
    return replace(ours, adapter=adapter, loss=loss)


def _clips() -> AdapterTrainingSettings:
    """What was measured best of what needs no right answer: layers on the way down, no tokens (docs/adapter.md)."""
    window = Window(0.5, 1.0)
    return AdapterTrainingSettings(
        adapter=AdapterSettings(
            lora=LoraSettings(scope="down"),
            tokens=None,
            training_window=window,
            inference_window=window,
            scale=1.0,
            in_inversion=True,
        ),
        loss=LossSettings(window=window, weight_temporal=0.05, unconditional=0.2),
        loop=LoopSettings(steps=150, learning_rate=1e-3, warmup=20, decay=0.0, accumulation=1),
        pairs=2,
    )


_RECIPES = {
    "edits": _edits,
    "clips": _clips,
    "noise": _noise,
    "published": _published,
    "published-code": _published_code,
}
NAMES = tuple(_RECIPES)
"""`edits`: led towards right answers of rendered scenes. `clips`: what was measured best of what needs no right answer
(docs/adapter.md). `published`: the paper as printed (arXiv:2501.04606, section 4.1), and
`published-code` what its authors' code does. `noise`: the paper's with our own temporal loss."""
_LOSSES = {"edits": EditLossSettings, **dict.fromkeys(NAMES[1:], LossSettings)}
"""What each minimises."""


def suited(source: Mapping[str, Any]) -> str:
    """Return the recipe for data of a source, as its manifest describes it: `clips` where no right answer is known."""
    return "edits" if source.get("kind") == "world" else "clips"


def adapter(name: str, **told: Any) -> AdapterTrainingSettings:
    """Return the settings of a recipe, with what was `told` by flat names (`steps`, `rank`, `edit_guidance`) changed.

    An adapter that learns from edits is used where it learnt, unless told otherwise. Raises: SettingsError.
    """
    if name not in _RECIPES:
        raise SettingsError(f"recipe must be one of {', '.join(NAMES)}, got {name[:40]!r}.")
    mine = {leaf.name for leaf in options(_LOSSES[name])}
    for other in (EditLossSettings, LossSettings):
        if foreign := sorted(({leaf.name for leaf in options(other)} - mine) & told.keys()):
            raise SettingsError(
                f"{argument(foreign[0])} has no effect with {argument('recipe')} {name}; leave it out."
            )
    if name == "edits" and "window" in told:
        told = {"inference_window": told["window"], **told}
    return changed(_RECIPES[name](), told, "a training")
