"""Temporal losses and their gradients against recorded tensors (golden/ge/README.md, part d)."""

import re

import pytest

from closeness import difference
from evenreel.adapters.temporal_loss import frames_loss, temporal_loss
from hosts import golden

VALUE, GRADIENT = 1e-5, 1e-5

losses = pytest.mark.parametrize("recording", golden.cases("ge", "eq4_K"))


def named(recording, pattern):
    """Numbers in the names of tensors that match."""
    return sorted({int(match.group(1)) for name in recording.names if (match := re.fullmatch(pattern, name))})


def close(value, recorded):
    # a sum of 1 - cosine: rounding is a share of the ones, however small what is left
    assert value.item() == pytest.approx(recorded.item(), rel=VALUE, abs=VALUE)


def layers_of(recording, videos):
    indices = named(recording, rf"code_b{videos}_feature(\d+)")
    return [recording[f"code_b{videos}_feature{index}"].requires_grad_() for index in indices]


def check_gradients(layers, recording, prefix):
    """Beside the largest gradient that was meant: of one video, the published ones are rounding alone."""
    meant = prefix.replace("code", "intended")
    largest = max(recording[f"{meant}_grad{index}"].abs().max() for index in range(len(layers)))
    for index, layer in enumerate(layers):
        theirs = recording[f"{prefix}_grad{index}"]
        assert layer.grad.shape == theirs.shape
        apart = (layer.grad - theirs).abs().max()
        assert apart <= GRADIENT * max(largest, theirs.abs().max()), (prefix, index)


@losses
@pytest.mark.parametrize("published", [True, False])
def test_noise_levels(recording, published):
    videos = named(recording, r"code_b(\d+)_loss")
    assert videos
    for count in videos:
        layers, prefix = layers_of(recording, count), f"{'code' if published else 'intended'}_b{count}"
        loss = recording.meta["ratio"] * temporal_loss(
            "noise-levels", layers, frames=2, levels=2, published=published
        )
        loss.backward()
        close(loss, recording[f"{prefix}_loss"])
        check_gradients(layers, recording, prefix)


@losses
def test_ours_has_a_gradient_for_one_video_and_the_published_one_has_none(recording):
    largest = {}
    for published in (True, False):
        layers = layers_of(recording, 1)
        temporal_loss("noise-levels", layers, frames=2, levels=2, published=published).backward()
        largest[published] = max(layer.grad.abs().max().item() for layer in layers)
    assert largest[True] < 1e-4 * largest[False]


@losses
def test_frames(recording):
    lengths = named(recording, r"eq4_K(\d+)_features")
    assert lengths
    for frames in lengths:
        for form in ("mean", "eq22"):
            features = recording[f"eq4_K{frames}_features"].requires_grad_()
            loss = frames_loss(features[None], eq22=form == "eq22")
            loss.backward()
            close(loss, recording[f"eq4_K{frames}_{form}_loss"])
            theirs = recording[f"eq4_K{frames}_{form}_grad"]
            assert difference(features.grad, theirs) <= GRADIENT
        as_layer = recording[f"eq4_K{frames}_features"].flatten(1, -2)
        close(temporal_loss("frames", [as_layer], frames=frames), recording[f"eq4_K{frames}_mean_loss"])
