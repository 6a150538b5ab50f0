"""What CLIP sees: the prompt in the frames, the likeness of neighbours, the direction of the change.

The model is always named beside these figures: they are not comparable between models. Preprocessing is pinned in
`ClipModel.embed_frames`; all cosines are of projected embeddings.
"""

import torch
from torch import Tensor
from torch.nn import functional

from evenreel.errors import SettingsError
from evenreel.metrics.base import Mean, Metric
from evenreel.metrics.temporal import ONE_FRAME
from evenreel.metrics.unavailable import UnavailableError
from evenreel.metrics.window import Embeddings, Inputs, Window

SAME = 1e-6
"""Length of a change of unit embeddings below which it has no direction."""


class ClipText(Metric):
    """CLIP-T: mean over edited frames of 100 times the cosine of the frame's and the prompt's embeddings.

    Hessel et al., arXiv:2104.08718, without clipping at zero. ViT-B/32 and ViT-L/14 differ by several points.
    """

    label = "CLIP-T"
    family = "clip"
    better = "higher"
    needs = ("clip", "prompt")

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.text = _text(inputs, inputs.prompt)
        self.mean = Mean()

    def add(self, window: Window) -> None:
        """Compare each frame with the prompt."""
        self.mean.add(100 * functional.normalize(window.clip_of_edit, dim=-1) @ self.text)

    def value(self) -> float:
        """Return the mean over all frames."""
        return self.mean.value("the clip has no frames")


class ClipFrames(Metric):
    """CLIP-F: mean cosine of the embeddings of each edited frame and the next.

    Only neighbours count: not a frame with itself, not all pairs. A frozen clip has 1.
    """

    label = "CLIP-F"
    family = "clip"
    better = "higher"
    needs = ("clip",)

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.mean = Mean()
        self.last: Embeddings | None = None

    def add(self, window: Window) -> None:
        """Compare each edited frame with the next, also across windows."""
        found = functional.normalize(window.clip_of_edit, dim=-1)
        run = found if self.last is None else torch.cat([self.last, found])
        self.mean.add((run[:-1] * run[1:]).sum(-1))
        self.last = run[-1:]

    def value(self) -> float:
        """Return the mean over all pairs of neighbours."""
        return self.mean.value(ONE_FRAME)


class ClipDirection(Metric):
    """CLIP-dir: mean over frames of cos(edited - source image, prompt - source prompt), all embeddings of length one.

    Gal et al., arXiv:2108.00946. A frame that the edit left as it was has no direction and does not count.
    """

    label = "CLIP-dir"
    family = "clip"
    better = "higher"
    needs = ("clip", "prompt", "source_prompt")

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.change = _text(inputs, inputs.prompt) - _text(inputs, inputs.source_prompt)
        if self.change.norm() < SAME:
            raise UnavailableError(
                "prompt and source prompt are the same to CLIP, so no direction is asked for"
            )
        self.mean, self.unmoved = Mean(), 0

    def add(self, window: Window) -> None:
        """Compare the direction of the change in the frames of a window with that in the prompts."""
        edit, source = (
            functional.normalize(found, dim=-1) for found in (window.clip_of_edit, window.clip_of_source)
        )
        change = edit - source
        moved = change.norm(dim=-1) >= SAME
        self.unmoved += int((~moved).sum())
        self.mean.add(functional.cosine_similarity(change[moved], self.change[None], dim=-1))

    def value(self) -> float:
        """Return the mean over frames that changed."""
        return self.mean.value("no frame of the edit differs from the source")

    @property
    def note(self) -> str:
        """Frames without a direction."""
        return f"without {self.unmoved} frames that are as in the source" if self.unmoved else ""


def _text(inputs: Inputs, prompt: str | None) -> Tensor:
    assert inputs.clip is not None
    assert prompt is not None
    try:
        return functional.normalize(inputs.clip.embed_texts([prompt])[0], dim=-1)
    except SettingsError as error:  # too long for this model, say
        raise UnavailableError(str(error).rstrip(".")) from error
