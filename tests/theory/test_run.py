"""The corrected bounds on a model: a tiny one with random weights by default, the packaged one with `-m slow`."""

import json

import pytest
import torch

from closeness import assert_close
from evenreel.backbones import layers, load_backbone
from evenreel.backbones.clip import load_clip
from evenreel.theory.statements import STATEMENTS
from evenreel.workflows.theory.layers import heads_of, on_tokens
from evenreel.workflows.theory.measures import inverted, lipschitz_by_step
from evenreel.workflows.theory.run import finding_rows, measure_theory, worst_findings
from evenreel.world import HELD_OUT, random_scene, render


@pytest.fixture(scope="module")
def backbone(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu")


@pytest.fixture(scope="module")
def findings(backbone):
    return measure_theory(backbone, frames=3, steps=2)


def test_what_is_measured(findings, backbone):
    wanted = {"C.3", "C.7", "C.8", "C.9", "C.10", "C.12", "C.13", "C.15"}
    assert {one.statement for one in findings} == wanted
    assert wanted <= {number for statement in STATEMENTS for number in statement.ids}
    places = {one.where for one in findings if one.statement == "C.10"}
    assert len(places) == len(layers.text_attentions(backbone.unet))


def test_no_corrected_bound_is_broken(findings):
    for one in findings:
        assert one.measured.holds or one.estimate, one
    assert {one.statement for one in findings if one.estimate} == {"C.8", "C.9"}


def test_rows_and_the_worst_of_them(findings):
    rows = json.loads(json.dumps(finding_rows(findings)))
    assert len(rows) == len(findings)
    worst = worst_findings(findings)
    assert sum(places for _, places in worst) == len(findings)
    for one, _ in worst:
        alike = [other for other in findings if other.measured.what == one.measured.what]
        assert (one.measured.share or 0) == max(other.measured.share or 0 for other in alike)


def test_the_model_is_left_as_it_was(backbone, findings):
    assert findings
    assert not any("Recorder" in type(one).__name__ for one in backbone.unet.attn_processors.values())
    assert not any(module._forward_hooks for module in backbone.unet.modules())


def test_heads_give_what_the_layer_gives(backbone):
    name = layers.text_attentions(backbone.unet)[0]
    layer = layers.attention(backbone.unet, name)
    x, z = torch.randn(1, 9, layer.to_q.in_features), torch.randn(1, 5, layer.to_k.in_features)
    with torch.no_grad():
        wanted = layer(x, encoder_hidden_states=z)[0]
        joined = torch.cat([head(x[0].double(), z[0].double()) for head in heads_of(layer)], dim=1)
        found = layer.to_out[0](joined.float())
    assert_close(found, wanted)


def test_the_predictors_constant_is_that_of_its_jacobian(backbone):
    """On latents of 2 x 2 the whole Jacobian can be had."""
    run = inverted(backbone, torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0)), "", 1)
    ((_, found),) = lipschitz_by_step(run, [0], iterations=12)
    eps = run.predict(run.timesteps[0])
    jacobian = torch.autograd.functional.jacobian(
        lambda v: eps(v.view(1, 4, 2, 2)).flatten(), run.path[0].flatten()
    )
    assert found == pytest.approx(torch.linalg.matrix_norm(jacobian, 2).item(), rel=0.02)


def test_the_run_is_the_inversion(backbone):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    run = inverted(backbone, latents, "", 2)
    again = [noisy for _, noisy in run.from_start(latents)]
    assert len(run.path) == len(run.levels) == 3
    assert all(torch.equal(one, other) for one, other in zip(run.path[1:], again, strict=True))


def test_vision_tokens():
    clip = load_clip("mini", device="cpu")
    frames = render(random_scene(HELD_OUT + 1, objects=1), range(2), 128, maps=False).frames
    assert clip.frame_tokens(frames).shape == (2, 50, 192)
    for one in on_tokens(clip, frames):
        assert one.measured.holds
        assert "rank 50 of 50" in one.note or "rank 25 of 25" in one.note


def test_weights_that_load_in_inference_mode_still_take_gradients(tiny_folder):
    with torch.inference_mode():
        unet = load_backbone(str(tiny_folder), device="cpu").unet
    latents = torch.randn(1, 4, 8, 8, requires_grad=True)
    unet(latents, 1, encoder_hidden_states=torch.zeros(1, 3, 32), return_dict=False)[0].sum().backward()
    assert latents.grad is not None
    assert latents.grad.norm() > 0


@pytest.mark.slow
def test_the_packaged_model():
    for one in measure_theory(load_backbone("mini", device="cpu")):
        assert one.measured.holds, one  # those with estimated bounds too
