"""VidToMe (arXiv:2312.10656): frames share self-attention tokens inside chunks and from chunk to chunk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from evenreel.backbones import layers
from evenreel.backbones.base import Backbone
from evenreel.backbones.hooks import processors_installed
from evenreel.errors import SettingsError
from evenreel.hosts.base import EditJob, Occasion, Session, sole_session, start_of
from evenreel.hosts.injection import InjectionPlan, InjectionState, features_injected, source_attentions
from evenreel.hosts.motion_windows import Window, predict_fused
from evenreel.hosts.prediction import branches, predict_guided
from evenreel.hosts.vidtome.chunks import StepPlanner, is_order, random_planner
from evenreel.hosts.vidtome.merging import MergedAttention, MergeSettings, MergingState
from evenreel.settings import Range, settle
from evenreel.types import Latents


@dataclass(frozen=True, kw_only=True)
class VidToMeHost:
    """Token merging across frames, with plug-and-play injection. Defaults are the published ones."""

    name: ClassVar[str] = "vidtome"
    with_motion: ClassVar[bool] = True
    tells_relative: ClassVar[bool] = True
    without_source: ClassVar[Mapping[str, float]] = {"pnp_attn": 0.0, "pnp_conv": 0.0}

    chunk_size: Annotated[int, Range(1)] = 4
    """Frames that are computed together, at most `--batch`; memory grows with it, not with the length of the clip.
    With motion modules their windows are the chunks."""
    local_merge_ratio: Annotated[float, Range(0.0, 1.0)] = 0.9
    """Share of tokens inside a chunk that merge into those of one of its frames."""
    global_merge_ratio: Annotated[float, Range(0.0, 1.0)] = 0.8
    """Share of a chunk's tokens that merge with those of earlier chunks."""
    global_rand: Annotated[float, Range(0.0, 1.0)] = 0.5
    """Chance that the earlier chunks' tokens merge into a chunk's, and not the other way round."""
    merge_global: bool = True
    """Whether tokens pass from chunk to chunk; without it only frames of a chunk agree."""
    chunk_order: str = "mix-4"
    """Order of the chunks in a step: seq, rand, or mix-d (one d-th at random, then along the clip)."""
    align_branches: bool = True
    """Whether all branches of guidance merge the same tokens; with injection they always do."""
    max_downsample: Annotated[int, Range(1)] = 2
    """Layers at most this many times smaller than the latents merge."""
    pnp_attn: Annotated[float, Range(0.0, 1.0)] = 0.5
    """Share of the steps, from the first, at which self-attention takes queries and keys from the source."""
    pnp_conv: Annotated[float, Range(0.0, 1.0)] = 0.8
    """Share of the steps, from the first, at which a decoder resnet takes its features from the source."""

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")
        if not is_order(self.chunk_order):
            raise SettingsError(
                f"vidtome.chunk_order must be seq, rand, mix or mix-2 up, got {self.chunk_order!r}."
            )

    def idle(self, occasion: Occasion) -> Mapping[str, str]:
        """Return settings that others switch off."""
        idle: dict[str, str] = {}
        if not self.merge_global:
            idle |= dict.fromkeys(("global_merge_ratio", "global_rand"), "merge_global is off")
        if occasion.with_source and (self.pnp_attn or self.pnp_conv):
            idle["align_branches"] = (
                "with injection all branches merge the same tokens; set pnp_attn and pnp_conv to 0"
            )
        elif not occasion.guided:
            idle["align_branches"] = "without guidance there is one branch only"
        return idle

    @sole_session
    def attach(
        self, backbone: Backbone, job: EditJob, *, planner: StepPlanner | None = None
    ) -> Iterator[Session]:
        """Install merging and injection while inside. `planner` replaces the draws, to replay recorded ones."""
        planner = planner or random_planner(job.seed, min(self.chunk_size, job.batch), self.chunk_order)
        session = VidToMeSession(backbone, job, self, planner)
        unet = backbone.unet
        processors = {**unet.attn_processors, **source_attentions(unet, session.injection)}
        merging = {
            name: MergedAttention(processors[name], name, session.merging)
            for name in layers.self_attentions(unet)
        }
        with processors_installed(unet, merging), features_injected(unet, session.injection):
            yield session


class VidToMeSession:
    """One edit, chunk by chunk; global tokens live for one step."""

    def __init__(self, backbone: Backbone, job: EditJob, host: VidToMeHost, planner: StepPlanner) -> None:
        self.backbone, self.job, self.planner = backbone, job, planner
        self.plan = InjectionPlan.of(job, host.pnp_attn, host.pnp_conv)
        # The source takes part in every step, also when nothing is injected any more: it sways which tokens merge.
        self.with_source = self.plan.steps > 0 or job.relative
        self.injection = InjectionState()
        settings = MergeSettings(
            local_ratio=host.local_merge_ratio,
            global_ratio=host.global_merge_ratio,
            global_rand=host.global_rand,
            merge_global=host.merge_global,
            aligned=host.align_branches or self.plan.steps > 0,
            max_downsample=host.max_downsample,
        )
        self.merging = MergingState(settings)

    def start(self) -> tuple[Latents, tuple[int, ...]]:
        """Begin at the inverted source, or at noise."""
        return start_of(self.job, self.backbone.device)

    def predict_noise(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        """Predict guided noise; chunks, their order and all draws are new at every step."""
        self.injection.attention, self.injection.features = self.plan.at(step_index)
        count = branches(self.job, timestep, with_source=self.with_source)
        self.injection.branches = self.merging.branches = count
        self.merging.latent_size = (latents.shape[2], latents.shape[3])
        try:
            return self._predict(latents, step_index, timestep)
        finally:
            self.merging.global_tokens.clear()

    def _predict(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        motion = self.job.motion
        if motion is None:
            plans = self.planner(step_index, len(latents))
            windows = [Window(plan.frames, (1.0,) * len(plan.frames)) for plan in plans]
        else:
            cut = {window.frames: window for window in motion.cut(len(latents), timestep)}
            plans = self.planner(step_index, len(latents), tuple(cut))
            windows = [cut[plan.frames] for plan in plans]
        planned = dict(zip(windows, plans, strict=True))

        def predict(window: Window) -> Latents:
            self.merging.chunk = planned[window]
            frames = list(window.frames)
            return predict_guided(
                self.backbone, self.job, latents[frames], frames, timestep, with_source=self.with_source
            )

        return predict_fused(latents, windows, predict)
