"""vid2vid-zero (arXiv:2303.17599): frames see each other, and the edit attends to its prompt where the source does."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Annotated, ClassVar

from evenreel.backbones.base import Backbone
from evenreel.backbones.hooks import processors_installed
from evenreel.hosts.base import (
    EditJob,
    Occasion,
    Session,
    sole_session,
)
from evenreel.hosts.prompt_to_prompt import (
    controlled,
)
from evenreel.hosts.vid2vid_zero.published import PublishedSession
from evenreel.hosts.vid2vid_zero.session import Vid2VidZeroSession
from evenreel.hosts.vid2vid_zero.spatio_temporal import video_attentions
from evenreel.settings import Range, settle


@dataclass(frozen=True, kw_only=True)
class Vid2VidZeroHost:
    """Attention across frames, and prompt-to-prompt: layout comes from where the source attends to its own prompt."""

    name: ClassVar[str] = "vid2vid_zero"
    with_motion: ClassVar[bool] = True
    tells_relative: ClassVar[bool] = True
    without_source: ClassVar[Mapping[str, float]] = {"cross": 0.0, "self_attention": 0.0}

    window: Annotated[int, Range(1)] = 8
    """Frames that are computed together, at most `--batch`; each window sees the frame `anchor` and the last one
    before it. Memory grows with it, not with the length of the clip. Motion modules have windows of their own."""
    anchor: Annotated[int | None, Range(0)] = None
    """Number of the frame that all frames see, from 0; none: the first that is not of one colour."""
    dense_block: Annotated[int, Range(0)] = 0
    """Down block whose first self-attention sees all frames of the window; where it has none, the next block counts.
    The middle one and the first of the up block after see all frames too; all others the first frame and the one
    before."""
    cross: Annotated[float, Range(0.0, 1.0)] = 0.8
    """Share of the steps, from the first, at which attention to the prompt comes from the source's; needs a source
    prompt."""
    self_attention: Annotated[float, Range(0.0, 1.0)] = 0.4
    """Share of the steps, from the first, at which self-attention of coarse layers comes from the source's."""
    null_text: Annotated[float, Range(-1.0, 1.0)] = 1.0
    """Share of the steps at which null texts are used, where an inversion found some: the first ones; of a negative
    share, the last ones."""
    published: bool = False
    """Whether to do as the published implementation does: source and edit are sampled side by side, all frames in one
    pass with group norms across them, nothing is done to self-attention, and attention to the prompt comes from the
    source for a share `self_attention` of the steps when words were added or left out."""

    def __post_init__(self) -> None:
        settle(self, f"{self.name}.")

    @property
    def session_class(self) -> type[Vid2VidZeroSession]:
        """What does the work: as published, or not."""
        return PublishedSession if self.published else Vid2VidZeroSession

    def idle(self, occasion: Occasion) -> Mapping[str, str]:
        """Return settings that lack what they work on."""
        idle: dict[str, str] = {}
        if not occasion.with_source_prompt:
            idle["cross"] = "there is no source prompt to take attention from"
        if not (occasion.null_texts and occasion.guided):
            idle["null_text"] = "null texts are found by the inversion null-text, with guidance, alone"
        if self.published:
            idle |= dict.fromkeys(("window", "anchor"), "published takes all frames together")
            idle["seed"] = "nothing is random in the published implementation"
        elif occasion.frames is not None and occasion.frames <= min(self.window, occasion.batch):
            idle["seed"] = "only where windows meet is random, and all frames fit into one"
        return idle

    @sole_session
    def attach(self, backbone: Backbone, job: EditJob) -> Iterator[Session]:
        """Install attention across frames and prompt-to-prompt while inside.

        Raises: SettingsError for a job without a source when attention comes from it, and for a `dense_block` that the
        model does not have.
        """
        session = self.session_class(backbone, job, self)
        unet = backbone.unet
        with ExitStack() as stack:
            stack.enter_context(session.together(unet, job.shape[0]))
            attentions = video_attentions(unet, session.video_attention, self.dense_block)
            stack.enter_context(processors_installed(unet, attentions))
            stack.enter_context(processors_installed(unet, controlled(unet, session.prompt_to_prompt)))
            yield session

    def attach_inversion(self, backbone: Backbone, frames: int) -> AbstractContextManager[int | None]:
        """Return the model as it inverts a clip, for `hosts.base.inverting`: with group norms across frames if
        `published`.
        """
        return self.session_class.together(backbone.unet, frames)
