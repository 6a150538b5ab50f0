"""How far a model's features change from frame to frame as they should not (FTC of the GE-Adapter, arXiv:2501.04606).

Three forms behind one switch:

`frames`            Eq. 4: the similarity of neighbouring frames should not change along the clip. It is zero for frames
                    that flicker between two states, and needs three frames at one noise level.
`noise-levels`      What the published code means to be: the similarity of two frames should not change with the noise.
`source-anchored`   Ours: along the source's own motion, the similarity of each token to where it goes should be what it
                    is in the source. So flicker that the source does not have costs, and motion that it has does not.

A batch holds videos outermost, then noise levels, then frames: (videos levels frames) tokens channels. The losses are
means over videos and places and sums over layers; their weight is the caller's. All of them take cosines alone, so
scaling a frame's features changes nothing, and they are smooth where no feature is zero (one that is gets no gradient).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from evenreel.errors import SettingsError
from evenreel.ops.token_motion import TokenMotion, by_resemblance

FORMS = ("frames", "noise-levels", "source-anchored")

Features = Float[Tensor, "batch tokens channels"]

_SMALLEST = 1e-6
"""Norm below which a feature has no direction."""


def temporal_loss(
    form: str,
    features: Sequence[Float[Tensor, "batch _ _"]],
    *,
    frames: int,
    levels: int = 1,
    source: Sequence[Float[Tensor, "_ _ _"]] | None = None,
    motion: Sequence[TokenMotion] | None = None,
    published: bool = False,
) -> Float[Tensor, ""]:
    """Return the loss of one of the FORMS over layers' `features`, whose batch is (videos levels frames).

    `source-anchored` takes the `source`'s features by layer, of batch (videos frames), and the `motion` between its
    frames, of pairs (videos frames-1); None finds it by resemblance in the source's features. `published` gives
    `noise-levels` as published, which is another quantity.
    Raises: SettingsError for an unknown form, or for frames and levels that it cannot compare.
    """
    if form not in FORMS:
        raise SettingsError(f"the temporal loss must be one of {', '.join(FORMS)}, got {form!r}.")
    if not features:
        raise SettingsError("the temporal loss needs the features of at least one layer.")
    smallest = {"frames": 3, "noise-levels": 2, "source-anchored": 2}[form]
    if frames < smallest:
        raise SettingsError(f"the temporal loss {form} needs at least {smallest} frames, got {frames}.")
    if form == "frames":
        return _added([frames_loss(_clips(layer, frames)) for layer in features])
    if form == "noise-levels":
        if levels != 2:
            raise SettingsError(f"the temporal loss noise-levels compares 2 noise levels, got {levels}.")
        if published:
            return published_loss(features)
        return _added([noise_levels_loss(layer, frames) for layer in features])
    if source is None:
        raise SettingsError("the temporal loss source-anchored needs the source's features.")
    motions = [None] * len(source) if motion is None else motion
    return _added(
        [
            source_anchored_loss(layer, anchor, frames, levels=levels, motion=moves)
            for layer, anchor, moves in zip(features, source, motions, strict=True)
        ]
    )


def frames_loss(clips: Float[Tensor, "clips frames *features"], *, eq22: bool = False) -> Float[Tensor, ""]:
    """Return the mean over interior frames of (cos(F_t, F_t+1) - cos(F_t-1, F_t))^2 (Eq. 4), F_t a frame's flattened
    features.

    `eq22` divides by one more than there are interior frames, as the paper's appendix does.
    """
    flat = clips.flatten(2)
    similarities = cosines(flat[:, :-1], flat[:, 1:])
    squares = similarities.diff(dim=1).square()
    return squares.sum(1).mean() / (squares.shape[1] + eq22)


def noise_levels_loss(features: Features, frames: int = 2) -> Float[Tensor, ""]:
    """Return the mean over videos, pairs of neighbouring frames and tokens of (cos at one noise level - cos at the
    other)^2.
    """
    levels = _clips(features, frames).unflatten(0, (-1, 2))
    similarities = cosines(levels[:, :, :-1], levels[:, :, 1:])
    return (similarities[:, 0] - similarities[:, 1]).square().mean()


def source_anchored_loss(
    features: Features,
    source: Float[Tensor, "anchors tokens _"],
    frames: int,
    *,
    levels: int = 1,
    motion: TokenMotion | None = None,
) -> Float[Tensor, ""]:
    """Return the mean over tokens p of the first frame of each pair, as far as the motion is sure of them, of (s(p) -
    s'(p))^2.

    s(p) = cos(F_t(p), F_t+1(m(p))), where m(p) is the place to which the source moves what p shows; s'(p) is the same
    of the source's features, which are constants. 0 when the edit's frames resemble each other just as the source's do,
    4 when they turn round where the source stands still. None for `motion` finds m in the source's features.
    """
    anchors = _clips(source.detach(), frames)
    before, after = anchors[:, :-1].flatten(0, 1), anchors[:, 1:].flatten(0, 1)
    motion = by_resemblance(before, after) if motion is None else motion
    expected = cosines(before, motion.follow(after)).unflatten(0, (-1, 1, frames - 1))
    edits = _clips(features, frames).unflatten(0, (-1, levels))
    # Motion is the same at all noise levels of a video: pairs of (videos levels) take that of their video.
    rows = torch.arange(len(before)).view(-1, 1, frames - 1).expand(-1, levels, -1).flatten()
    every = TokenMotion(motion.places[rows], motion.shares[rows], motion.sure[rows])
    ours = cosines(edits[:, :, :-1].flatten(0, 2), every.follow(edits[:, :, 1:].flatten(0, 2))).unflatten(
        0, (-1, levels, frames - 1)
    )
    sure = motion.sure.to(ours).unflatten(0, (-1, 1, frames - 1)).expand_as(ours)
    return (sure * (ours - expected).square()).sum() / sure.sum().clamp_min(1.0)


def published_loss(features: Sequence[Float[Tensor, "batch _ _"]]) -> Float[Tensor, ""]:
    """Return the loss of the published code: cosines along the batch inside quarters of it, one for each number.

    For one video these are cosines of two scalars, 1 or -1, and no gradient comes out; for more, quarters are not what
    they are taken for. A reference to compare with, not a loss to train by.
    """
    losses = []
    for layer in features:
        quarters = layer.float().chunk(4)
        one, other = (
            functional.cosine_similarity(*pair, dim=0, eps=_SMALLEST)
            for pair in ((quarters[0], quarters[1]), (quarters[2], quarters[3]))
        )
        losses.append((one - other).square().mean())
    return _added(losses)


def cosines(one: Float[Tensor, "*shape c"], other: Float[Tensor, "*shape c"]) -> Float[Tensor, "*shape"]:
    """Return cosines along the last axis, in single precision or better; of what has no direction 0, without
    gradient."""
    one, other = (part if part.dtype == torch.float64 else part.float() for part in (one, other))
    lengths = one.norm(dim=-1) * other.norm(dim=-1)
    has_direction = (one.detach().norm(dim=-1) > _SMALLEST) & (other.detach().norm(dim=-1) > _SMALLEST)
    products = torch.where(has_direction, (one * other).sum(-1), 0)
    return products / torch.where(has_direction, lengths, 1)


def _clips(features: Any, frames: int) -> Any:
    if len(features) % frames:
        raise SettingsError(
            f"{len(features)} rows of features are no whole number of clips of {frames} frames."
        )
    return features.unflatten(0, (-1, frames))


def _added(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).sum()
