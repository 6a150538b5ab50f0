"""Bilateral filters and inversions against recorded tensors (golden/ge/README.md, parts a, b and e)."""

import pytest
import torch

from closeness import NETWORK, difference
from evenreel.backbones import layers, load_backbone
from evenreel.diffusion.inversion import invert
from evenreel.inversions.bilateral import BilateralInversion, bilateral_method, features_filtered
from evenreel.ops.bilateral import filter_1d, filter_2d
from hosts import golden

FILTER, INVERSION, FEATURES = 1e-5, NETWORK, NETWORK

lines = pytest.mark.parametrize("recording", golden.cases("ge", "bf1d"))
pictures = pytest.mark.parametrize("recording", golden.cases("ge", "bf2d"))
in_features = pytest.mark.parametrize("recording", golden.cases("ge", "t1_up_blocks"))
in_latents = pytest.mark.parametrize("recording", golden.cases("ge", "filtered_latents"))


def numbers(settings):
    sigmas = {name: float(settings[name]) for name in ("sigma_spatial", "sigma_intensity")}
    return {"kernel": settings["kernel"], **sigmas}


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(golden.model(), device="cpu", dtype="float32")


@lines
def test_filters_along_an_axis(recording):
    for case in recording.meta["filters"]:
        index = case["index"]
        ours = filter_1d(recording[f"bf1d{index}_in"], **numbers(case))
        assert difference(ours, recording[f"bf1d{index}_out"]) <= FILTER, case


@lines
def test_filters_along_the_frames(recording):
    settings = BilateralInversion(mode="feature-time")
    for name in recording.names:
        if name.startswith("hook") and name.endswith("_in"):
            ours = settings.filter_frames(recording[name])
            assert difference(ours, recording[name.replace("_in", "_out")]) <= FILTER, name


@pictures
@pytest.mark.parametrize("edge", ["reflect", "valid"])
def test_filters_over_latents(recording, edge):
    for case in recording.meta["filters"]:
        index = case["index"]
        ours = filter_2d(recording[f"bf2d{index}_in"], **numbers(case), edge=edge)
        assert difference(ours, recording[f"bf2d{index}_out_{edge}"]) <= FILTER, case


def encoded(backbone, recording):
    frames = recording["source_frames_u8"].permute(0, 3, 1, 2).float() / 255
    return backbone.encode(frames)


def timesteps_of(backbone, recording):
    timesteps = backbone.schedule.timesteps(recording.meta["steps"])
    assert list(reversed(timesteps)) == recording["timesteps"].tolist()
    return timesteps


def predictions(backbone, embeds, seen):
    """The network's, kept by timestep."""

    def predict_noise(latents, timestep):
        seen[timestep] = backbone.predict_noise(latents, timestep, embeds)
        return seen[timestep]

    return predict_noise


@in_features
def test_inversion_with_features_filtered_along_the_frames(recording, backbone):
    settings = BilateralInversion(mode="feature-time", **numbers(recording.meta["filter"]))
    unet = backbone.unet
    layer_names = layers.last_self_attentions(unet)
    assert [name.split(".transformer")[0] for name in layer_names] == recording.meta["hooked"]
    assert difference(backbone.embed([recording.meta["prompt"]]), recording["prompt_embeds"][1:]) <= 1e-5
    start, seen, taps = encoded(backbone, recording), {}, {}
    assert difference(start, recording["latents"][0]) <= INVERSION
    predict_noise = predictions(backbone, recording["prompt_embeds"][1:], seen)
    with features_filtered(unet, settings):
        # After the filter's own hooks, so that what it gave is seen; what it was given is filtered again below.
        handles = [
            layers.attention(unet, name).register_forward_hook(
                lambda _module, _inputs, output, name=name: taps.__setitem__((len(seen), name), output)
            )
            for name in layer_names
        ]
        try:
            method = bilateral_method(settings)
            run = method(start, predict_noise, backbone.schedule, timesteps_of(backbone, recording))
            for index, (timestep, latents) in enumerate(run):
                assert difference(latents, recording["latents"][index + 1]) <= INVERSION, timestep
        finally:
            for handle in handles:
                handle.remove()
    ascending = recording["timesteps"].tolist()
    for name in recording.names:
        head, _, rest = name.partition("_")
        timestep = int(head[1:]) if head[:1] == "t" and head[1:].isdigit() else None
        if timestep is not None and rest == "noise_pred":
            assert difference(seen[timestep], recording[name]) <= INVERSION, name
        elif timestep is not None and name.endswith("attn1_after"):
            layer = next(one for one in layer_names if one.startswith(rest.split(".attn1_")[0] + "."))
            assert difference(taps[ascending.index(timestep), layer], recording[name]) <= FEATURES, name
            before = recording[name.replace("_after", "_before")]
            assert difference(settings.filter_frames(before), recording[name]) <= FILTER, name


@in_features
def test_the_filter_of_features_makes_the_difference(recording, backbone):
    run = invert(
        encoded(backbone, recording),
        predictions(backbone, recording["prompt_embeds"][1:], {}),
        backbone.schedule,
        timesteps_of(backbone, recording),
    )
    *_, (_, latents) = run
    assert difference(latents, recording["final_latents_filter_off"]) <= INVERSION
    assert difference(latents, recording["latents"][-1]) > 0.05


@in_latents
def test_inversion_of_filtered_latents(recording, backbone):
    settings = BilateralInversion(edge=recording.meta["edge"], **numbers(recording.meta))
    start, seen, filtered = encoded(backbone, recording), {}, []
    predict_noise = predictions(backbone, recording["prompt_embeds"], seen)

    def watched(latents, timestep):
        filtered.append(latents)
        return predict_noise(latents, timestep)

    method = bilateral_method(settings)
    with features_filtered(backbone.unet, settings):  # which does nothing in this mode
        run = method(start, watched, backbone.schedule, timesteps_of(backbone, recording))
        for index, (timestep, latents) in enumerate(run):
            assert difference(filtered[index], recording["filtered_latents"][index]) <= INVERSION, timestep
            assert difference(latents, recording["latents"][index + 1]) <= INVERSION, timestep
    timesteps = recording["timesteps"].tolist()
    assert difference(seen[timesteps[0]], recording["noise_pred_first"]) <= INVERSION
    assert difference(seen[timesteps[-1]], recording["noise_pred_last"]) <= INVERSION
    run = invert(start, predict_noise, backbone.schedule, timesteps_of(backbone, recording))
    *_, (_, plain) = run
    assert difference(plain, recording["final_latents_filter_off"]) <= INVERSION


@in_features
def test_nothing_is_left_behind(recording, backbone):
    embeds = recording["prompt_embeds"][1:]
    latents = recording["latents"][0]
    before = backbone.predict_noise(latents, 401, embeds)
    with features_filtered(backbone.unet, BilateralInversion(mode="feature-time")):
        assert not torch.equal(backbone.predict_noise(latents, 401, embeds), before)
    assert torch.equal(backbone.predict_noise(latents, 401, embeds), before)
    assert not any(module._forward_hooks for module in backbone.unet.modules())
