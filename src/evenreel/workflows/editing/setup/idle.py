"""What of a run's settings has no effect: options are refused, what another value switches off is said."""

from collections.abc import Iterator

from evenreel.errors import SettingsError, argument
from evenreel.files import shown
from evenreel.hosts.base import Host, Occasion, idle_settings
from evenreel.inversions.base import Inversion, TellsGuided, is_random
from evenreel.settings import EditSettings, RunSettings
from evenreel.workflows.editing.additions.adapter import AdapterInUse


def occasion_of(settings: RunSettings, guidance_scale: float | None, frames: int | None) -> Occasion:
    """Return what hosts are told of a run; a `guidance_scale` that nobody knows yet counts as guidance."""
    edit = isinstance(settings, EditSettings)
    return Occasion(
        with_source=edit,
        with_control=settings.control is not None,
        with_source_prompt=edit and bool(settings.source_prompt.split()),
        null_texts=edit and settings.inversion == "null-text",
        guided=guidance_scale != 1,
        frames=frames,
        batch=settings.batch,
    )


def refuse_idle(host: Host, settings: RunSettings, occasion: Occasion) -> None:
    """Refuse options of the host that would do nothing in this run. Raises: SettingsError."""
    for name, reason in idle_settings(host, occasion).items():
        if name in settings.host_options:
            raise SettingsError(f"{host.name}.{name} has no effect here: {reason}; leave it out.")


def notices(
    settings: RunSettings,
    host: Host,
    inversion: Inversion | None,
    guidance_scale: float,
    steps: int,
    occasion: Occasion,
) -> Iterator[str]:
    """Yield a sentence for each setting that another one switches off, or goes badly with; `inversion` is None where
    there is none."""
    if guidance_scale == 0:
        yield "a guidance scale of 0 leaves the prompt out: the negative prompt alone decides what is shown"
    if guidance_scale == 1:
        guides_itself = isinstance(inversion, TellsGuided) and inversion.guided
        if settings.negative_prompt and not guides_itself:
            yield "a guidance scale of 1 switches guidance off, so that the negative prompt does not count"
        if occasion.null_texts:
            yield "a guidance scale of 1 leaves no null text to find: the inversion is that of ddim"
        if settings.guidance_interval is not None:
            yield "a guidance scale of 1 switches guidance off, so that its interval does not count"
    schedules = settings.schedules if isinstance(settings, EditSettings) else (settings.schedule,)
    if not all(schedule.is_constant for schedule in schedules) and occasion.with_source_prompt:
        yield "a prompt that changes along the clip switches off what compares its words with the source's"
    if isinstance(settings, EditSettings) and not round(settings.strength * steps):
        yield f"strength {settings.strength:g} of {steps} steps is none: the source stays"
    for control in settings.control or ():
        if control.scale == 0:
            which = (
                "the ControlNet"
                if len(settings.control or ()) == 1
                else f"the ControlNet {shown(control.model)}"
            )
            yield f"a control scale of 0 leaves {which} out"
    if settings.adapter is not None and settings.adapter.scale == 0:
        yield "an adapter scale of 0 leaves the adapter out"
    if settings.preset == "fastest" and host.name == "frame":
        yield "the preset fastest can break shapes in the host frame; it is meant for other hosts"
    reason = idle_settings(host, occasion).get("seed")
    if settings.seed and reason and not (inversion is not None and is_random(inversion)):
        yield f"seed {settings.seed} has no effect: {reason}"


def check_window(adapter: AdapterInUse, timesteps: tuple[int, ...], trained: int) -> None:
    """Refuse an adapter that would be at work at none of the steps. Raises: SettingsError."""
    if adapter.scale and not any(adapter.window.holds(timestep, trained) for timestep in timesteps):
        raise SettingsError(
            f"the adapter's window {adapter.window} holds none of the {len(timesteps)} steps, which lie between "
            f"{timesteps[-1] / trained:g} and {timesteps[0] / trained:g}; widen {argument('adapter_window')}, or take "
            f"more {argument('steps')}."
        )
