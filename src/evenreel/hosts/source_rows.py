"""The source's rows of a network call, computed by themselves and kept: another edit of the clip then needs none.

What the source's branch computes follows from the clip, its prompt and its noise, and not from what it is to become. An
edit takes of it what is injected (plug-and-play, prompt-to-prompt) and, where predictions are told relative to the
source's, its noise. So the source passes alone, and of each layer that is injected from what the layer got is noted: a
page for the frames of one call. In the edit's own call these rows are put in front of what such a layer gets, and are
taken off again behind it, so that whoever injects finds them where they always are.
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from evenreel.backbones.hooks import AttnProcessor, forward_hooked

Page = Mapping[str, Tensor]
"""By layer, what it got of the source's rows (of the injected resnet: what it gave); and NOISE, TEXT and DEEP."""
NOISE, TEXT, FEATURES, DEEP = "noise", "text", "features", "deep"


@runtime_checkable
class SourceRows(Protocol):
    """Where pages lie."""

    def read(self, call: Sequence[object]) -> Page | None:
        """Return the page of a call, told by all in which calls of one clip differ; None where there is none."""
        ...

    def write(self, call: Sequence[object], page: Page) -> None:
        """Keep the page of a call, if there is room."""
        ...


class NoRows:
    """Keeps nothing: an edit computes the source's rows by themselves all the same, so that its frames are the same."""

    def read(self, call: Sequence[object]) -> None:
        """Return nothing."""

    def write(self, call: Sequence[object], page: Page) -> None:
        """Keep nothing."""


@dataclass
class Beside:
    """What the layers are to do in the network call at hand; the session sets it."""

    wanted: Collection[str] = ()
    """Layers in which the source's rows are needed: processors by name, and FEATURES."""
    page: dict[str, Tensor] | None = None
    """Of the call; None where the source passes in the batch, or not at all."""
    notes: bool = False
    """Whether the source passes alone, and the page is written."""

    @contextmanager
    def noting(self, wanted: Collection[str]) -> Generator[dict[str, Tensor]]:
        """Note what the source's rows are, while they pass alone."""
        self.wanted, self.page, self.notes = wanted, {}, True
        try:
            yield self.page
        finally:
            self.page, self.notes = None, False

    @contextmanager
    def put_in_front(self, wanted: Collection[str], page: Page) -> Generator[None]:
        """Put these rows in front of the edit's where they are needed."""
        self.wanted, self.page = wanted, dict(page)
        try:
            yield
        finally:
            self.page = None


@dataclass(frozen=True)
class AttentionBeside:
    """An attention that sees the source's rows in front of the others; `inner` is whatever injects from them."""

    inner: AttnProcessor
    name: str
    state: Beside

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        page = self.state.page
        if page is None or self.name not in self.state.wanted:
            return self.inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
        text = encoder_hidden_states
        if self.state.notes:
            page[self.name] = hidden_states
            if text is not None:
                page[TEXT] = text[:1]  # all frames have one source prompt
            return self.inner(attn, hidden_states, text, *args, **kwargs)
        source = page[self.name].to(hidden_states.device)
        if text is not None:
            text = torch.cat([page[TEXT].to(text.device).expand(len(source), -1, -1), text])
        return self.inner(attn, torch.cat([source, hidden_states]), text, *args, **kwargs)[len(source) :]


def attentions_beside(unet: Any, names: Collection[str], state: Beside) -> dict[str, AttnProcessor]:
    """Return processors that put the source's rows in front, by name, wrapping those in place."""
    inner = unet.attn_processors
    return {name: AttentionBeside(inner[name], name, state) for name in names}


@contextmanager
def features_beside(layer: nn.Module, injected: Any, state: Beside) -> Generator[None]:
    """Put what a layer gave for the source in front of what it gives, for `injected`, a context manager whose hook
    injects it; and take it off again."""
    rows: list[int] = []

    def before(output: Tensor) -> Tensor:
        rows.clear()
        if state.page is None or FEATURES not in state.wanted:
            return output
        if state.notes:
            state.page[FEATURES] = output
            return output
        source = state.page[FEATURES].to(output.device)
        rows.append(len(source))
        return torch.cat([source, output])

    def after(output: Tensor) -> Tensor:
        return output[rows[0] :] if rows else output

    with ExitStack() as stack:
        stack.enter_context(forward_hooked(layer, before))
        stack.enter_context(injected)
        stack.enter_context(forward_hooked(layer, after))
        yield
