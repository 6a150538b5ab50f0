"""LoRAs, embeddings, another autoencoder and the reading of prompts in whole runs: at work, recorded, repeated."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

import evenreel
from adapters.lora_writing import ATTENTIONS, TEXT, factors_of, kohya, layers_of
from evenreel.backbones import load_backbone
from evenreel.errors import SettingsError, WeightsError
from evenreel.settings import EditSettings, GenerateSettings
from evenreel.settings.kinds import split_file
from evenreel.workflows.editing.additions.loras import Additions
from evenreel.workflows.editing.generate import generate_file
from evenreel.workflows.editing.repeat import repeat_edit
from tiny import WIDTH, tiny_vae

QUICK = {"size": 64, "frames": 2, "steps": 2, "prompt": "a red ball"}


@pytest.fixture
def things(tiny_folder, tmp_path):
    """A LoRA, an embedding and an autoencoder for the tiny model, as files."""
    model = load_backbone(str(tiny_folder), device="cpu")
    unet = factors_of(layers_of(model.unet, ATTENTIONS))
    text = factors_of(layers_of(model.text.text_encoder, TEXT), seed=1)
    kohya(tmp_path / "style.safetensors", unet, text)
    vectors = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    save_file({"emb_params": vectors}, tmp_path / "EasyCat.safetensors")
    tiny_vae(seed=4).save_pretrained(tmp_path / "vae")
    return tmp_path


def made(folder, **settings):
    return evenreel.generate(model=str(folder), **{**QUICK, **settings}).frames


def test_each_of_them_changes_the_clip(tiny_folder, things):
    plain = made(tiny_folder)
    for settings in (
        {"lora": [f"{things / 'style.safetensors'}:0.7"]},
        {"vae": str(things / "vae")},
        {"prompt": "a (red:1.9) ball"},
        {"embedding": [f"{things / 'EasyCat.safetensors'}:ball"]},
    ):
        assert not torch.equal(made(tiny_folder, **settings), plain)
    assert torch.equal(made(tiny_folder, prompt="a red ball", prompt_syntax="plain"), plain)
    assert torch.equal(made(tiny_folder, lora=[f"{things / 'style.safetensors'}:0"]), plain)


def test_an_embedding_is_its_vectors_in_whatever_case(tiny_folder, things):
    told = {"embedding": [str(things / "EasyCat.safetensors")]}
    upper, lower = (made(tiny_folder, prompt=p, **told) for p in ("an EasyCat", "an easycat"))
    assert torch.equal(upper, lower)
    assert not torch.equal(upper, made(tiny_folder, prompt="an EasyCat"))


@pytest.mark.parametrize("told", ["", ":a word"])
def test_an_embedding_whose_word_no_prompt_has_is_said(told, tiny_folder, things):
    model = load_backbone(str(tiny_folder), device="cpu")

    def notices(*prompts):
        names = [f"{things / 'EasyCat.safetensors'}{told}"]
        return Additions.opened(model, list(prompts), loras=None, embeddings=names, syntax=None).notices

    word = told[1:] or "EasyCat"
    said = f"no prompt has the word {word!r}, so the embedding EasyCat.safetensors has no effect."
    assert said in notices("a red ball", f"a{word}s")
    assert notices("a red ball", f"{word.upper()}, a ball") == model.notices


def test_a_record_holds_them_and_repeat_refuses_others(tiny_folder, things, monkeypatch):
    monkeypatch.chdir(things)
    settings = GenerateSettings(
        model=str(tiny_folder),
        lora=("style.safetensors:0.5",),
        embedding=("EasyCat.safetensors:ball",),
        vae="vae",
        **QUICK,
    )
    result = generate_file(things / "a.mp4", settings)
    assert result.record["settings"]["lora"] == [f"{things / 'style.safetensors'}:0.5"]
    assert result.record["loras"][0]["weight"] == 0.5
    assert result.record["loras"][0]["text_encoder"] > 0
    monkeypatch.chdir(things.parent)
    repeat_edit(things / "a.json", things / "b.mp4")
    assert (things / "a.mp4").read_bytes() == (things / "b.mp4").read_bytes()
    for name, said in (("style", "the LoRA .* is no longer"), ("EasyCat", "the embedding .* is no longer")):
        kept = (things / f"{name}.safetensors").read_bytes()
        (things / f"{name}.safetensors").write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        with pytest.raises(WeightsError, match=said):
            repeat_edit(things / "a.json", things / "b.mp4")
        (things / f"{name}.safetensors").write_bytes(kept)
    tiny_vae(seed=5).save_pretrained(things / "vae")
    with pytest.raises(WeightsError, match=r"the model .* is no longer the one"):
        repeat_edit(things / "a.json", things / "b.mp4")


def test_repeat_refuses_another_scheduler(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    generate_file(tmp_path / "a.mp4", GenerateSettings(model=str(folder), **QUICK))
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"beta_end": 0.013}))
    with pytest.raises(WeightsError, match="is no longer the one that was used"):
        repeat_edit(tmp_path / "a.json", tmp_path / "b.mp4")


def test_what_is_read_as_plain_words_is_said_once(tiny_folder):
    clip = evenreel.generate(model=str(tiny_folder), **{**QUICK, "prompt": "a ball <lora:style:0.7>"})
    assert clip.record["notices"] == ["in the prompt <lora:style:0.7> is read as plain words."]


def test_it_is_said_before_anything_is_sampled(tiny_folder, caplog):
    stages = []

    def progress(stage, _done, _total):
        stages.append((stage, [record.getMessage() for record in caplog.records]))

    prompt = "a ball [ugly:0.5]"
    clip = evenreel.generate(model=str(tiny_folder), progress=progress, **{**QUICK, "prompt": prompt})
    said = ["in the prompt [ugly:0.5] is read as plain words."]
    assert clip.record["notices"] == said
    assert stages[0] == ("load model", [])
    later = [told for stage, told in stages if stage != "load model"]
    assert later
    assert all(told == said for told in later)


def test_what_a_loaded_model_cannot_take_any_more_is_refused(tiny_folder):
    model = load_backbone(str(tiny_folder), device="cpu")
    with pytest.raises(SettingsError, match="clip_skip is told when a model is loaded"):
        evenreel.generate(backbone=model, clip_skip=2, **QUICK)


@pytest.mark.parametrize("weight", ["much", "11", "nan", ""])
def test_weights_that_cannot_be(tiny_folder, things, weight):
    with pytest.raises(SettingsError, match="must be FILE or FILE:WEIGHT"):
        made(tiny_folder, lora=[f"{things / 'style.safetensors'}:{weight}"])


def test_files_with_more_behind_a_colon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:0.5").touch()
    assert split_file("a.safetensors:0.5") == ("a.safetensors", "0.5")
    assert split_file("a.safetensors") == ("a.safetensors", None)
    assert split_file("odd:0.5") == ("odd:0.5", None)
    assert split_file("C:/models/a.safetensors") == ("C:/models/a.safetensors", None)
    assert EditSettings(prompt="x", lora=("a:1", "b")).to_json()["lora"] == ["a:1", "b"]
