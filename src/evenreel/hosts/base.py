"""What a host is, and what it is given."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ClassVar, NamedTuple, Protocol, cast, runtime_checkable
from weakref import WeakSet

import torch

from evenreel import random, registry
from evenreel.backbones.base import Backbone
from evenreel.backbones.control import AnyControl
from evenreel.backbones.sharing import exclusive
from evenreel.diffusion.trajectory import Trajectory
from evenreel.errors import SettingsError
from evenreel.hosts.feature_reuse import FeatureReuse
from evenreel.hosts.motion_windows import MotionWindows
from evenreel.hosts.source_rows import SourceRows
from evenreel.scratch import placed
from evenreel.settings import read
from evenreel.types import Latents, PromptRows

PrefixOf = Callable[[Sequence[int], int], PromptRows | None]
"""(frames, timestep) -> tokens with a row for each of the frames; None where there are none."""


class Prompts(NamedTuple):
    """What was written, where embeddings are not enough."""

    source: str
    """What the source shows; may be empty."""
    edit: str
    """What the edit shows."""


@dataclass(frozen=True, kw_only=True)
class EditJob:
    """One edit of one clip. Embeddings have one row, or one for each frame."""

    shape: tuple[int, int, int, int]
    """Of the clip's latents: frames, channels, height, width."""
    timesteps: tuple[int, ...]
    """Where sampling goes, descending."""
    prompt_embeds: PromptRows
    """What the edit shows."""
    negative_prompt_embeds: PromptRows
    """What it must not show."""
    null_embeds: Mapping[int, PromptRows] = field(default_factory=dict[int, PromptRows])
    """By timestep, what null-text inversion found in the place of `negative_prompt_embeds`."""
    source_prompt_embeds: PromptRows
    """What the source shows: text of the source branch, from which features are injected."""
    prompts: Prompts | None = None
    """The texts themselves; without them, nothing compares their words."""
    source: Trajectory | None = None
    """The inverted source clip at every one of `timesteps`; None where there is no source."""
    clean: Latents | None = None
    """The source clip without noise; None where there is no source."""
    guidance_scale: float = 7.5
    """How strongly the prompt pulls; 1 switches guidance off."""
    guidance_interval: tuple[float, float] | None = None
    """First and last of the training timesteps at which guidance is at work; None is all of them. At others there is
    no branch of the negative prompt (arXiv:2404.07724)."""
    seed: int = 0
    """Where all randomness of the host starts."""
    batch: int = 8
    """Frames that pass through the model together, where the host does not decide it."""
    anchor: int = 0
    """Frame that is fit to be looked at by all others: the first of the source that is not of one colour."""
    place: tuple[int, int] | None = None
    """Of a scene, the number of its first frame in the clip, and the clip's frames; None where there is one scene."""
    control: AnyControl | None = None
    """ControlNets that see a condition of every frame; None without one."""
    prefix: PrefixOf | None = None
    """An adapter's tokens, which go in front of the prompt in every branch; None without an adapter."""
    relative: bool = False
    """Whether predictions are told relative to the source's: what the same network call predicts for the source, under
    the source's prompt, is taken away. Then every call has a source branch."""
    reshapes: bool = False
    """Whether another shape is asked for, and nothing else, of a model of which it was measured what that takes."""
    source_rows: SourceRows | None = None
    """Where what the source's branch computes lies; None where it passes in the network calls of the edit. A host that
    does not say `keeps_source_rows` takes no notice of it."""
    reuse: FeatureReuse | None = None
    """What steps share of the noise predictor's deep features; None where each computes its own."""
    motion: MotionWindows | None = None
    """Motion modules that were at work when the source was inverted, and are in every network call; None without."""

    def guidance_at(self, timestep: int) -> float:
        """Return how strongly the prompt pulls at a timestep."""
        if self.guidance_interval is None:
            return self.guidance_scale
        first, last = self.guidance_interval
        return self.guidance_scale if first <= timestep <= last else 1.0


class Occasion(NamedTuple):
    """What is known of a run before its work begins: on it depends which settings have an effect."""

    with_source: bool
    """Whether a clip is edited, and not made from text."""
    with_control: bool
    """Whether a ControlNet takes part."""
    with_source_prompt: bool
    """Whether it is said what the source shows."""
    null_texts: bool
    """Whether the inversion finds null texts."""
    guided: bool
    """Whether the prompt pulls at all: guidance is not 1."""
    frames: int | None
    """Frames of the clip, as far as known."""
    batch: int
    """Frames that pass through the model together."""


@runtime_checkable
class Session(Protocol):
    """A host at work on a model. It holds all state, and dies when the `with` block ends."""

    def start(self) -> tuple[Latents, tuple[int, ...]]:
        """Say where sampling begins: noisy latents, and the timesteps (some or all of the job's) still to go."""
        ...

    def predict_noise(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        """Predict noise for a whole clip, guided; the host cuts it into chunks itself.

        `step_index` counts the timesteps that `start` gave.
        """
        ...


@runtime_checkable
class Carries(Protocol):
    """A session that takes something along from step to step, which a run that was stopped needs to go on."""

    def carried(self) -> Mapping[str, torch.Tensor]:
        """Return what the next step needs of those before it, beside the latents."""
        ...

    def carry_on(self, carried: Mapping[str, torch.Tensor]) -> None:
        """Take up what another session had `carried`, before a step that is not the first."""
        ...


@runtime_checkable
class Host(Protocol):
    """A frozen dataclass whose fields are the host's settings, found through the `evenreel.hosts` entry points."""

    name: ClassVar[str]

    def attach(self, backbone: Backbone, job: EditJob) -> AbstractContextManager[Session]:
        """Take over a model's layers while inside; afterwards the model is as it was, bit for bit."""
        ...


def sole_session(attach: Callable[..., Iterator[Session]]) -> Callable[..., AbstractContextManager[Session]]:
    """Make a host's `attach` a context manager, as `contextlib.contextmanager` does, that has the model alone.

    Other threads wait until the session is over. Raises: SettingsError for a second session inside the first one's
    `with` block, since both would change the same layers.
    """
    attached = contextmanager(cast("Callable[..., Generator[Session]]", attach))

    @wraps(attach)
    @contextmanager
    def alone(host: Any, backbone: Backbone, *args: Any, **kwargs: Any) -> Generator[Session]:
        unet = backbone.unet
        with exclusive(unet):
            if unet in _in_session:
                raise SettingsError(
                    "a host is at work on this model already; end its session first, or load the model once more."
                )
            _in_session.add(unet)
            try:
                with attached(host, backbone, *args, **kwargs) as session:
                    yield session
            finally:
                _in_session.discard(unet)

    return alone


_in_session: WeakSet[Any] = WeakSet()
"""Networks that a host is at work on; each is entered and left by who has it alone."""


@runtime_checkable
class AttachesInversion(Protocol):
    """A host that also does something to the model while the source is inverted."""

    def attach_inversion(self, backbone: Backbone, frames: int) -> AbstractContextManager[int | None]:
        """Take over a model's layers while a clip of `frames` is inverted inside.

        Yields how many frames must pass through the model together; None leaves that to the job's batch.
        """
        ...


@runtime_checkable
class TakesMotion(Protocol):
    """A host that says whether motion modules can work in it."""

    with_motion: ClassVar[bool]
    """Whether it lets frames of a clip pass together, in the windows of the job's `motion`."""


@runtime_checkable
class TellsRelative(Protocol):
    """A host that says whether it can tell predictions relative to the source's, as the job's `relative` asks."""

    tells_relative: ClassVar[bool]
    """Whether all its predictions come from `predict_guided`, with a source in each where the job is `relative`."""


@runtime_checkable
class KeepsSourceRows(Protocol):
    """A host that says whether it can take the source's rows from where the job's `source_rows` has them."""

    keeps_source_rows: ClassVar[bool]
    """Whether its source's branch does not depend on the edit, and is left out of calls whose rows are there."""


@runtime_checkable
class TellsIdle(Protocol):
    """A host that says which of its settings, and whether `seed`, have no effect in a run."""

    def idle(self, occasion: Occasion) -> Mapping[str, str]:
        """Return the names of such settings, each with the reason."""
        ...


@runtime_checkable
class HasSourcelessDefaults(Protocol):
    """A host's class that has other defaults where there is no source to edit."""

    without_source: ClassVar[Mapping[str, Any]]
    """Settings and the values that replace their defaults."""


def start_of(job: EditJob, device: torch.device) -> tuple[Latents, tuple[int, ...]]:
    """Begin where most hosts do: at the inverted source, or without one at noise that follows from the seed."""
    if job.source is not None:
        return placed(job.source.read(job.timesteps[0]), device), job.timesteps
    noise = torch.randn(job.shape, generator=random.generator(job.seed))
    return placed(noise, device), job.timesteps


def inverting(host: Host, backbone: Backbone, frames: int) -> AbstractContextManager[int | None]:
    """Let a host do to the model what it does while the source is inverted: nothing, unless it `AttachesInversion`.

    Yields how many frames must pass through the model together; None leaves that to the job's batch.
    """
    return host.attach_inversion(backbone, frames) if isinstance(host, AttachesInversion) else nullcontext()


def tells_relative(host: Host) -> bool:
    """Return whether a host can tell predictions relative to the source's."""
    return isinstance(host, TellsRelative) and host.tells_relative


def keeps_source_rows(host: Host) -> bool:
    """Return whether a host can take the source's rows from where they were kept."""
    return isinstance(host, KeepsSourceRows) and host.keeps_source_rows


def idle_settings(host: Host, occasion: Occasion) -> Mapping[str, str]:
    """Return settings of a host, and `seed`, that have no effect in a run, with the reason, as far as it tells."""
    return host.idle(occasion) if isinstance(host, TellsIdle) else {}


def create_host(name: str, options: Mapping[str, Any] | None = None, *, with_source: bool = True) -> Host:
    """Make a registered host with some settings changed. Raises: PluginError, SettingsError.

    Where there is no source, the defaults of a host that `HasSourcelessDefaults` are those.
    """
    host_class = registry.find(registry.HOSTS, name)
    defaults: Mapping[str, Any] = {} if with_source else _without_source(host_class)
    return read(host_class, {**defaults, **(options or {})}, f"host {name}", within=f"{name}.")


def _without_source(host_class: object) -> Mapping[str, Any]:
    return host_class.without_source if isinstance(host_class, HasSourcelessDefaults) else {}


def anchor_of(job: EditJob, told: int | None) -> int:
    """Return the frame that all others look at: as told, else as the job has it. Raises: SettingsError."""
    if told is None:
        return job.anchor
    first, frames = job.place or (0, job.shape[0])
    if told >= frames:
        raise SettingsError(f"anchor must be below the number of frames, {frames}, got {told}.")
    # scenes that do not hold it have one of their own
    return told - first if first <= told < first + job.shape[0] else job.anchor
