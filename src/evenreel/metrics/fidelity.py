"""Agreement with what is known: with the source where it was to stay, with the right answer where there is one."""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.metrics.base import Mean, Metric
from evenreel.metrics.unavailable import UnavailableError
from evenreel.metrics.window import Background, Inputs, Window
from evenreel.types import Frames

SSIM_RADIUS = 5
"""Pixels on either side of the middle of SSIM's window."""
SSIM_SIGMA = 1.5
NO_BACKGROUND = "the mask leaves no background"


def psnr(
    frames: Frames, truth: Frames, weight: Float[Tensor, "frames 1 height width"] | None = None
) -> float:
    """Return the peak signal-to-noise ratio in dB of frames in [0, 1], from the squared error averaged over all frames.

    weight: which pixels count (averaged over those only; averaging over all would inflate the figure). Identical frames
    give infinity.
    """
    error = (frames - truth).square()
    if weight is None:
        mean = error.mean()
    else:
        weight = weight.expand_as(error)
        mean = (error * weight).sum() / weight.sum()
    return float(-10 * torch.log10(mean))


def ssim_map(frames: Frames, others: Frames) -> Float[Tensor, "frames 3 inner_height inner_width"]:
    """Return the structural similarity of each channel at each place (Wang et al., IEEE TIP 2004), in double precision.

    Gaussian window of 11 x 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, range 1; only where the whole window lies in
    the picture, so 5 pixels are lost on each side. Frames must have at least 11 x 11 pixels.
    """
    x, y = frames.double(), others.double()
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x**2
    variance_y = _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return likeness / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))


def check_ssim_size(frames: Frames) -> None:
    """Raise UnavailableError for frames in which SSIM's window has no place."""
    wanted = 2 * SSIM_RADIUS + 1
    if min(frames.shape[2:]) < wanted:
        height, width = frames.shape[2:]
        raise UnavailableError(
            f"frames of {width} x {height} pixels are smaller than SSIM's window of {wanted} x {wanted}"
        )


def _blurred(
    x: Float[Tensor, "frames 3 height width"],
) -> Float[Tensor, "frames 3 inner_height inner_width"]:
    offsets = torch.arange(-SSIM_RADIUS, SSIM_RADIUS + 1, dtype=torch.float64)
    weights = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights = (weights / weights.sum()).tolist()
    for axis in (2, 3):
        length = x.shape[axis] - 2 * SSIM_RADIUS
        blurred = torch.zeros_like(x.narrow(axis, 0, length))
        for i, weight in enumerate(
            weights
        ):  # on a CPU six times as fast as a convolution in double precision
            blurred.add_(x.narrow(axis, i, length), alpha=weight)
        x = blurred
    return x


class _Psnr(Metric):
    """PSNR of the edit against something, from the squared error averaged over everything that counts."""

    family = "fidelity"
    unit = "dB"
    better = "higher"
    empty = "the clip has no frames"
    identical = "the frames are identical, and PSNR has no finite value"

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.error = Mean()

    @abstractmethod
    def errors(self, window: Window) -> Tensor:
        """Return the squared errors of every value that counts."""

    def add(self, window: Window) -> None:
        """Add up squared errors."""
        self.error.add(self.errors(window))

    def value(self) -> float:
        """-10 log10 of the mean squared error."""
        mean = torch.tensor(self.error.value(self.empty), dtype=torch.float64)
        if mean == 0:
            raise UnavailableError(self.identical)
        return float(-10 * mean.log10())


class SourcePsnr(_Psnr):
    """Peak signal-to-noise ratio of the edit against the SOURCE, over all pixels.

    Frames in [0, 1]; the squared error is averaged over all pixels of all frames before the logarithm. High for an edit
    that does nothing: read it beside a measure of what was asked for.
    """

    label = "source PSNR"

    def errors(self, window: Window) -> Tensor:
        """Return the squared errors of every pixel against the source."""
        return (window.edit - window.source).square()


class BackgroundPsnr(_Psnr):
    """Peak signal-to-noise ratio of the edit against the SOURCE, over background pixels only (outside the mask).

    The squared error is averaged over the background pixels of all frames. (Averaging over all pixels, with the masked
    ones set to zero, as some evaluators do, would add -10 log10(share of the background) dB.)
    """

    label = "background PSNR"
    needs = ("mask",)
    empty = NO_BACKGROUND

    def errors(self, window: Window) -> Tensor:
        """Return the squared errors of the pixels outside the mask, against the source."""
        return _background((window.edit - window.source).square(), window.background)


class TruthPsnr(_Psnr):
    """Peak signal-to-noise ratio of the edit against the right answer, over all pixels."""

    label = "truth PSNR"
    needs = ("truth",)

    def errors(self, window: Window) -> Tensor:
        """Return the squared errors of every pixel against the right answer."""
        assert window.truth is not None
        return (window.edit - window.truth).square()


class _Ssim(Metric):
    """SSIM of the edit against something."""

    family = "fidelity"
    better = "higher"
    empty = "the clip has no frames"

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.mean = Mean()

    def reference(self, window: Window) -> Frames:
        """Return what the edit is compared with."""
        return window.source

    def background(self, window: Window) -> Background | None:
        """Return which pixels count; None for all."""
        del window
        return None

    def add(self, window: Window) -> None:
        """Add up the map, a frame at a time: it takes much memory."""
        check_ssim_size(window.edit)
        reference, background = self.reference(window), self.background(window)
        inner = slice(SSIM_RADIUS, -SSIM_RADIUS)
        for i in range(len(window.edit)):
            similarity = ssim_map(window.edit[i : i + 1], reference[i : i + 1])
            if background is not None:
                similarity = _background(similarity, background[i : i + 1, :, inner, inner])
            self.mean.add(similarity)

    def value(self) -> float:
        """Return the mean of the map."""
        return self.mean.value(self.empty)


class SourceSsim(_Ssim):
    """Mean structural similarity of the edit and the SOURCE (Wang et al. 2004), over all pixels.

    Gaussian window of 11 x 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, range 1; the map of each RGB channel where
    the whole window lies in the picture, averaged over places, channels and frames.
    """

    label = "source SSIM"


class BackgroundSsim(_Ssim):
    """Mean structural similarity of the edit and the SOURCE, over background pixels only (outside the mask).

    The map of `source_ssim`, computed on the unmasked frames and averaged over the places whose middle is background.
    """

    label = "background SSIM"
    needs = ("mask",)
    empty = f"{NO_BACKGROUND} that is at least {SSIM_RADIUS} pixels from the edge of the picture"

    def background(self, window: Window) -> Background | None:
        """Return what lies outside the mask."""
        return window.background


class TruthSsim(_Ssim):
    """Mean structural similarity of the edit and the right answer, over all pixels; as `source_ssim`."""

    label = "truth SSIM"
    needs = ("truth",)

    def reference(self, window: Window) -> Frames:
        """Return the frames of the right answer, which the edit is compared with."""
        assert window.truth is not None
        return window.truth


def _background(values: Float[Tensor, "frames _ height width"], background: Background | None) -> Tensor:
    assert background is not None
    return values[background.expand_as(values)]
