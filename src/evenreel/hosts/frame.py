"""Every frame edited by itself: the floor that hosts with a consistency mechanism are compared with.

With motion modules frames see each other there, and nowhere else: this is AnimateDiff (arXiv:2307.04725).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

from evenreel.backbones import layers
from evenreel.backbones.base import Backbone
from evenreel.backbones.hooks import processors_installed
from evenreel.hosts.base import EditJob, Occasion, Session, sole_session, start_of
from evenreel.hosts.feature_reuse import Branch
from evenreel.hosts.injection import InjectionPlan, InjectionState, features_injected, source_attentions
from evenreel.hosts.prediction import branches, predict_guided, predict_in_windows, predict_source
from evenreel.hosts.prompt_to_prompt import PromptToPromptState, TextPlan, text_controlled
from evenreel.hosts.source_rows import (
    DEEP,
    FEATURES,
    NOISE,
    Beside,
    Page,
    SourceRows,
    attentions_beside,
    features_beside,
)
from evenreel.settings import Before, Range, settle
from evenreel.types import Latents


class Shares(NamedTuple):
    """Of the steps, from the first, those at which something is taken from the source."""

    pnp_attn: float
    p2p_cross: float


USUAL, RESHAPING = Shares(0.5, 0.5), Shares(0.15, 0.0)
"""The second where another shape is asked for, and nothing else: what holds an outline keeps it from taking another
shape (docs/motion.md)."""


@dataclass(frozen=True, kw_only=True)
class FrameHost:
    """Per-frame editing with plug-and-play injection (arXiv:2211.12572) and prompt-to-prompt (arXiv:2208.01626)."""

    name: ClassVar[str] = "frame"
    with_motion: ClassVar[bool] = True
    tells_relative: ClassVar[bool] = True
    keeps_source_rows: ClassVar[bool] = True
    without_source: ClassVar[Mapping[str, float]] = {"pnp_attn": 0.0, "pnp_conv": 0.0, "p2p_cross": 0.0}

    pnp_attn: Annotated[float | None, Range(0.0, 1.0)] = None
    """Share of the steps, from the first, at which self-attention takes queries and keys from the source. None is 0.5,
    or 0.15 where another shape is asked for and nothing else, of a model of which that was measured."""
    pnp_conv: Annotated[float, Range(0.0, 1.0)] = 0.8
    """Share of the steps, from the first, at which a decoder resnet takes its features from the source."""
    p2p_cross: Annotated[float | None, Range(0.0, 1.0), Before(0.0)] = None
    """Share of the steps, from the first, at which places attend to the words of the prompt as the source's do to the
    words of its prompt. Nothing where the source has no prompt. None is 0.5, or 0 where pnp_attn would be 0.15."""

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")

    def idle(self, occasion: Occasion) -> Mapping[str, str]:
        """Return what has no effect: nothing is random, and attention to words needs words on both sides."""
        idle: dict[str, str] = {}
        if not occasion.with_source_prompt:
            idle["p2p_cross"] = "there is no source prompt to take attention from"
        if occasion.with_source:
            idle["seed"] = "nothing is random in an edit frame by frame"
        return idle

    @sole_session
    def attach(self, backbone: Backbone, job: EditJob) -> Iterator[Session]:
        """Install the injection into the model while inside, and yield the session of one edit."""
        shares = self.shares(reshapes=job.reshapes)
        plan = InjectionPlan.of(job, shares.pnp_attn, self.pnp_conv)
        text = TextPlan.of(backbone, job, shares.p2p_cross, f"{self.name}.p2p_cross")
        session = FrameSession(backbone, job, plan, text)
        unet = backbone.unet
        injected = features_injected(unet, session.state)
        with ExitStack() as stack:
            stack.enter_context(processors_installed(unet, source_attentions(unet, session.state)))
            if text.steps:
                stack.enter_context(processors_installed(unet, text_controlled(unet, session.text_state)))
            if job.source_rows is None:
                stack.enter_context(injected)
            else:
                names = {*session.attentions, *session.text_attentions}
                beside = attentions_beside(unet, names, session.beside)
                stack.enter_context(processors_installed(unet, beside))
                _, resnet = layers.injection_resnet(unet)
                stack.enter_context(features_beside(resnet.conv2, injected, session.beside))
            yield session

    def shares(self, *, reshapes: bool = False) -> Shares:
        """Return those that were told, and the others as suits an edit, which asks for another shape alone or not."""
        usual = RESHAPING if reshapes else USUAL
        return Shares(
            usual.pnp_attn if self.pnp_attn is None else self.pnp_attn,
            usual.p2p_cross if self.p2p_cross is None else self.p2p_cross,
        )


class FrameSession:
    """One edit, frame by frame."""

    def __init__(self, backbone: Backbone, job: EditJob, plan: InjectionPlan, text: TextPlan) -> None:
        self.backbone, self.job, self.plan, self.text = backbone, job, plan, text
        self.state, self.text_state, self.beside = InjectionState(), PromptToPromptState(), Beside()
        self.attentions = layers.decoder_self_attentions(backbone.unet)
        self.text_attentions = layers.text_attentions(backbone.unet)

    def start(self) -> tuple[Latents, tuple[int, ...]]:
        """Begin at the inverted source, or at noise."""
        return start_of(self.job, self.backbone.device)

    def predict_noise(self, latents: Latents, step_index: int, timestep: int) -> Latents:
        """Predict guided noise, some frames at a time; the source takes part only while it is injected."""
        self.state.attention, self.state.features = self.plan.at(step_index)
        self.text_state.prompts = self.text.at(step_index)
        with_source = (
            self.state.attention
            or self.state.features
            or self.text_state.prompts is not None
            or self.job.relative
        )
        self.state.branches = self.text_state.branches = branches(self.job, timestep, with_source=with_source)
        rows = self.job.source_rows if with_source else None

        def predict(frames: Sequence[int]) -> Latents:
            if rows is not None:
                return self._predict_beside(latents[list(frames)], frames, timestep, rows)
            return predict_guided(
                self.backbone, self.job, latents[list(frames)], frames, timestep, with_source=with_source
            )

        return predict_in_windows(self.job, latents, timestep, predict)

    def _predict_beside(
        self, latents: Latents, frames: Sequence[int], timestep: int, rows: SourceRows
    ) -> Latents:
        """Predict guided noise of some frames, with the source's rows from where they lie, or else computed alone."""
        wanted: set[str] = {FEATURES} if self.state.features else set()
        wanted |= set(self.attentions if self.state.attention else ())
        wanted |= set(() if self.text_state.prompts is None else self.text_attentions)
        reuse = self.job.reuse
        edit: list[Branch] = ["cond"] if self.job.guidance_at(timestep) == 1 else ["uncond", "cond"]
        # an edit whose guidance begins between two steps that share features passes all layers, and so must the source
        whole = reuse is None or not reuse.leaves_out(edit, frames, timestep)
        call = (timestep, tuple(frames), sorted(wanted), whole)
        page = rows.read(call)
        if page is None:
            page = self._source_page(frames, timestep, wanted, whole=whole)
            rows.write(call, page)
        elif reuse is not None and DEEP in page:
            reuse.take_up("source", frames, timestep, page[DEEP])
        with self.beside.put_in_front(wanted, page):
            return predict_guided(
                self.backbone,
                self.job,
                latents,
                frames,
                timestep,
                with_source=False,
                source_pred=page[NOISE].to(self.backbone.device),
            )

    def _source_page(self, frames: Sequence[int], timestep: int, wanted: set[str], *, whole: bool) -> Page:
        """Let the source pass alone, through all layers where it is to be `whole`: nothing is injected into it."""
        state, text = self.state, self.text_state
        set_for_edit = state.branches, text.prompts
        state.branches, text.prompts = 1, None
        try:
            with self.beside.noting(wanted) as page:
                noise_pred = predict_source(self.backbone, self.job, frames, timestep, whole=whole)
            reuse = self.job.reuse
            deep = {DEEP: reuse.of("source", frames)} if reuse is not None and whole else {}
            return {**page, **deep, NOISE: noise_pred}
        finally:
            state.branches, text.prompts = set_for_edit
