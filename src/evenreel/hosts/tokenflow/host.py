"""TokenFlow (arXiv:2307.10373): keyframes are edited together, the frames between take tokens from them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from evenreel.backbones import layers
from evenreel.backbones.base import Backbone
from evenreel.backbones.hooks import processors_installed
from evenreel.diffusion import ddim
from evenreel.errors import SettingsError, argument
from evenreel.hosts.base import EditJob, Occasion, Session, sole_session, start_of
from evenreel.hosts.injection import InjectionPlan, InjectionState, features_injected
from evenreel.hosts.motion_windows import Window, predict_fused
from evenreel.hosts.prediction import branches, predict_guided
from evenreel.hosts.tokenflow.keyframes import (
    Flow,
    KeyframeDraw,
    between,
    random_draw,
    stages,
    windows,
)
from evenreel.hosts.tokenflow.propagation import Matcher, PropagatedAttention, PropagationState, resemblance
from evenreel.hosts.tokenflow.variants import Corrected, Published
from evenreel.scratch import placed, room_like
from evenreel.settings import Range, settle
from evenreel.types import Latents

Flows = tuple[Flow, ...] | None
"""What the frames of a batch take from keyframes; None for keyframes themselves."""


@dataclass(frozen=True, kw_only=True)
class TokenFlowHost:
    """Keyframes edited together, and their features carried to the other frames along the source's correspondences."""

    name: ClassVar[str] = "tokenflow"
    with_motion: ClassVar[bool] = True
    tells_relative: ClassVar[bool] = True

    mode: Literal["pnp", "sdedit"] = "pnp"
    """`pnp`: from the inverted source, with plug-and-play injection. `sdedit`: from the source with less noise, without
    injection, so that shapes may change."""
    window: Annotated[int, Range(1)] = 8
    """Frames for each keyframe, of which one is drawn at every step."""
    pnp_attn: Annotated[float, Range(0.0, 1.0)] = 0.5
    """`pnp`: share of the steps, from the first, at which keyframes' self-attention takes queries and keys from the
    source."""
    pnp_conv: Annotated[float, Range(0.0, 1.0)] = 0.8
    """`pnp`: share of the steps, from the first, at which a decoder resnet takes its features from the source."""
    start: Annotated[float, Range(0.0, 1.0, above=True)] = 0.9
    """`sdedit`: share of the steps that are taken, the last ones; the fewer, the more of the source stays."""
    keyframes_together: Annotated[int, Range(1)] = 12
    """Keyframes that attend to one another, at most `--batch`. Of more, some from all over the clip come first, and the
    others see these too. With motion modules those of one of their windows attend to one another, and see those of the
    first window."""
    published: bool = False
    """Whether to do as the published implementation does: keyframes of the own window and of the one before, weights
    from 0.5 to 0.73, the source branch propagated too, all keyframes at once, and fewer steps of `sdedit`."""

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")

    @property
    def variant(self) -> Corrected:
        """What is done as published, or not."""
        return Published() if self.published else Corrected()

    def idle(self, occasion: Occasion) -> Mapping[str, str]:
        """Return settings that belong to the other mode, or that the published implementation does not have."""
        others = ("start",) if self.mode == "pnp" else ("pnp_attn", "pnp_conv")
        idle: dict[str, str] = dict.fromkeys(others, f"mode is {self.mode}")
        if self.published:
            idle["keyframes_together"] = "published takes all keyframes together"
        if self.window == 1 or occasion.frames == 1:
            idle["seed"] = "only keyframes are random, and every frame is one"
        return idle

    @sole_session
    def attach(
        self,
        backbone: Backbone,
        job: EditJob,
        *,
        draw: KeyframeDraw | None = None,
        matcher: Matcher = resemblance,
    ) -> Iterator[Session]:
        """Install the attention and the injection while inside.

        `draw` and `matcher` replace the drawn keyframes and the matched tokens, to replay recorded ones.
        Raises: SettingsError for a job without a source.
        """
        session = TokenFlowSession(backbone, job, self, draw or random_draw(job.seed, self.window), matcher)
        unet = backbone.unet
        injects, inner = set(layers.decoder_self_attentions(unet)), unet.attn_processors
        processors = {
            name: PropagatedAttention(inner[name], name, session.state, injects=name in injects)
            for name in layers.self_attentions(unet)
        }
        with processors_installed(unet, processors), features_injected(unet, session.injection):
            yield session


class TokenFlowSession:
    """One edit; what is kept of keyframes lives for one step."""

    def __init__(
        self, backbone: Backbone, job: EditJob, host: TokenFlowHost, draw: KeyframeDraw, matcher: Matcher
    ) -> None:
        if job.source is None or job.clean is None:
            raise SettingsError(
                "tokenflow edits a source clip and cannot work without one; use another host."
            )
        if job.motion is not None and host.published:
            raise SettingsError(
                "tokenflow lets keyframes pass alone when published is set, and motion modules need whole windows; "
                f"leave it out, or choose {argument('motion')} off."
            )
        self.backbone, self.job, self.host, self.draw = backbone, job, host, draw
        self.variant = host.variant
        injected = (host.pnp_attn, host.pnp_conv) if host.mode == "pnp" else (0.0, 0.0)
        self.plan = InjectionPlan.of(job, *injected)
        self.injection = InjectionState()
        self.state = PropagationState(
            self.injection, matcher, source_takes=self.variant.source_takes or job.relative
        )

    def start(self) -> tuple[Latents, tuple[int, ...]]:
        """Begin at the source with the noise that its inversion found, at the first timestep taken."""
        job, device, timesteps = self.job, self.backbone.device, self.job.timesteps
        if self.host.mode == "sdedit":
            timesteps = self.variant.last_timesteps(timesteps, self.host.start)
        elif self.variant.starts_at_inversion:
            return start_of(job, device)
        assert job.source is not None, "checked when it began"
        assert job.clean is not None, "checked when it began"
        alpha, noisiest = self.backbone.schedule.alpha, max(job.source.timesteps)
        clean, noisy = placed(job.clean, device), placed(job.source.read(noisiest), device)
        noise = ddim.to_noise(clean, noisy, alpha(noisiest), "sample")
        return ddim.add_noise(clean, noise, alpha(timesteps[0])), timesteps

    def predict_noise(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        """Predict guided noise: keyframes first, then `job.batch` at a time the frames that take from them.

        With motion modules, which need whole windows, both pass together: in every layer keyframes come first.
        """
        self.injection.attention, self.injection.features = self.plan.at(step_index)
        self.injection.branches = branches(self.job, timestep, with_source=True)
        keyframes = tuple(self.draw(step_index, len(latents)))
        try:
            if self.job.motion is not None:
                windows = self.job.motion.cut(len(latents), timestep)
                return self._predict_windows(latents, keyframes, timestep, windows)
            noise_pred = room_like(latents)
            for frames, flows in self._parts(keyframes, len(latents)):
                self.state.frames, self.state.flows, rows = frames, flows, list(frames)
                noise_pred[rows] = predict_guided(
                    self.backbone, self.job, latents[rows], frames, timestep, with_source=True
                ).to(noise_pred)
            return noise_pred
        finally:
            self.state.clear()

    def _predict_windows(
        self, latents: Latents, keyframes: Sequence[int], timestep: int, windows: Sequence[Window]
    ) -> Latents:
        """One network call for each window, whose keyframes are those drawn inside, or else its middle frame."""
        state = self.state
        state.shares_context = len(windows) > 1

        def predict(window: Window) -> Latents:
            frames = window.frames
            inside = [frame for frame in keyframes if frame in frames] or [frames[len(frames) // 2]]
            state.frames, state.flows = frames, between(frames, inside)
            state.keyframe_rows = tuple(map(frames.index, inside))
            noise_pred = predict_guided(
                self.backbone, self.job, latents[list(frames)], frames, timestep, with_source=True
            )
            state.shares_context = False  # that of the first window is enough
            state.kept.clear()
            return noise_pred

        return predict_fused(latents, windows, predict)

    def _parts(self, keyframes: Sequence[int], clip: int) -> Iterator[tuple[tuple[int, ...], Flows]]:
        """The network calls of a step: frames, and what they take from keyframes (None: they are keyframes)."""
        batch = self.job.batch
        together = self.variant.together(len(keyframes), min(self.host.keyframes_together, batch))
        clip_windows = windows(clip, self.host.window)
        self.state.shares_context = len(keyframes) > together
        for stage in stages(keyframes, clip, together):
            yield stage.keyframes, None
            self.state.shares_context = False  # that of the first stage is enough
            rest = self.variant.others(stage.ready, keyframes)
            for first in range(0, len(rest), batch):
                frames = tuple(rest[first : first + batch])
                yield frames, self.variant.flows(frames, keyframes, clip_windows)
            for keyframe in stage.past:
                del self.state.kept[keyframe]
