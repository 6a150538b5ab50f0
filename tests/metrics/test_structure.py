"""Structure distance against the model's own layers and a loop over pairs of tokens."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTModel

from evenreel.backbones.vision import load_dino
from evenreel.errors import WeightsError
from evenreel.metrics.structure import StructureDistance
from evenreel.world import HELD_OUT, random_scene, render
from metrics.measuring import figure, value


@pytest.fixture(scope="module")
def clips():
    scene = random_scene(HELD_OUT + 1, objects=1)
    other = scene.edited(shape="star" if scene.main.shape != "star" else "ring")
    return tuple(render(one, range(3), 32, maps=False).frames for one in (scene, other))


def slow_distance(model, source, edit):
    def keys(frame):
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        with torch.inference_mode():
            before = model(((frame - mean) / std)[None], output_hidden_states=True).hidden_states[-2]
            names = dict(model.named_modules())
            # layers.1.attention.k_proj; before transformers 5.7 or so, encoder.layer.1.attention.attention.key
            key = [one for name, one in names.items() if name.endswith((".k_proj", ".attention.key"))][-1]
            norm = [one for name, one in names.items() if name.endswith(".layernorm_before")][-1]
            return key(norm(before))[0].double().tolist()

    def likeness(tokens):
        lengths = [math.sqrt(sum(v * v for v in token)) for token in tokens]
        return [
            [
                sum(a * b for a, b in zip(x, y, strict=True)) / (m * n)
                for y, n in zip(tokens, lengths, strict=True)
            ]
            for x, m in zip(tokens, lengths, strict=True)
        ]

    one, other = likeness(keys(source)), likeness(keys(edit))
    cells = [(a - b) ** 2 for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)]
    assert len(cells) == 17 * 17  # sixteen patches and the class token
    return sum(cells) / len(cells)


@pytest.mark.parametrize("length", [1, 2, 16])
def test_it_is_the_definition(dino, dino_folder, clips, length):
    model = ViTModel.from_pretrained(dino_folder, add_pooling_layer=False).eval()
    expected = [slow_distance(model, one, other) for one, other in zip(*clips, strict=True)]
    assert min(expected) > 0
    found = value(StructureDistance, *clips, dino=dino, length=length)
    assert found == pytest.approx(sum(expected) / 3, rel=1e-3)


def test_what_stays_has_no_distance(dino, clips):
    assert value(StructureDistance, clips[0], clips[0].clone(), dino=dino) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("height", "width", "tokens"),
    [(32, 32, 17), (64, 128, 1 + 4 * 8), (40, 10, 1 + 8 * 2), (9, 300, 1 + 1 * 8)],
)
def test_the_aspect_ratio_is_kept_up_to_a_limit(dino, height, width, tokens):
    assert dino.keys(torch.rand(2, 3, height, width)).shape == (2, tokens, 16)


def test_nothing_stays_attached(dino):
    dino.keys(torch.rand(1, 3, 32, 32))
    assert not any(module._forward_hooks for module in dino._model.modules())


def test_a_pooler_is_left_out_silently(dino, tmp_path, clips, capfd):
    """Published folders may hold one that was never trained."""
    weights = load_file(Path(dino.name) / "model.safetensors")
    save_file({**weights, "pooler.dense.weight": torch.zeros(16, 16)}, tmp_path / "model.safetensors")
    shutil.copy(Path(dino.name) / "config.json", tmp_path)
    assert torch.equal(load_dino(str(tmp_path), device="cpu").keys(clips[0]), dino.keys(clips[0]))
    assert capfd.readouterr() == ("", "")


def test_a_layer_too_few(dino, tmp_path):
    weights = load_file(Path(dino.name) / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "layer.1." not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(Path(dino.name) / "config.json", tmp_path)
    with pytest.raises(WeightsError, match="weights are missing"):
        load_dino(str(tmp_path))


def test_without_a_model(clips, clip_folder):
    assert "no DINO was given" in figure(StructureDistance, *clips).unavailable
    with pytest.raises(WeightsError, match="must be a plain ViTModel, got CLIPModel"):
        load_dino(str(clip_folder))
