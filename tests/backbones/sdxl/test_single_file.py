"""One-file checkpoints of SD-XL, made here from their facts, beside the same model as a folder."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from closeness import assert_close
from evenreel.backbones import load_backbone
from evenreel.errors import WeightsError
from evenreel.workflows.inspect.weight_files import describe_file
from one_file import (
    WORDS,
    autoencoder_tensors,
    clip_tensors,
    lively,
    open_clip_tensors,
    sd_text,
    sd_vae,
    unet_tensors,
)
from tiny_xl import save_tiny_xl, tiny_xl_unet

WIDTHS, POOLED = (64, 128), 96
FIRST, SECOND = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."


def xl_unet(seed=0):
    """With heads of 64 features, as those of all such files."""
    unet = tiny_xl_unet(
        seed,
        block_out_channels=(64, 128, 128),
        norm_num_groups=32,
        attention_head_dim=[1, 2, 2],
        cross_attention_dim=sum(WIDTHS),
        projection_class_embeddings_input_dim=POOLED + 6 * 16,
        addition_time_embed_dim=16,
    )
    return lively(unet, seed)


def second_text(seed=0):
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=WORDS,
        hidden_size=WIDTHS[1],
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=2,
        hidden_act="gelu",
        projection_dim=POOLED,
        bos_token_id=WORDS - 2,
        eos_token_id=WORDS - 1,
        pad_token_id=0,
    )
    return lively(CLIPTextModelWithProjection(config).eval(), seed)


def second_tensors(text):
    """OpenCLIP's names; the projection is stored the other way round."""
    found = open_clip_tensors(text.text_model, SECOND)
    return found | {f"{SECOND}text_projection": text.text_projection.weight.T}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(diffusers folder, one file) of the same model."""
    path = tmp_path_factory.mktemp("one")
    folder, file = save_tiny_xl(path / "model"), path / "dream.safetensors"
    unet, first, second, vae = xl_unet(), sd_text(), second_text(), sd_vae()
    vae.register_to_config(scaling_factor=0.13025, force_upcast=True)
    for name, part in {"unet": unet, "vae": vae, "text_encoder": first, "text_encoder_2": second}.items():
        part.save_pretrained(folder / name)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"set_alpha_to_one": False}))
    tensors = unet_tensors(unet) | autoencoder_tensors(vae)
    tensors |= clip_tensors(first, FIRST) | second_tensors(second)
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file)
    return folder, file


def opened(both, file=None, **options):
    folder, whole = both
    return load_backbone(str(file or whole), device="cpu", tokenizer=str(folder / "tokenizer"), **options)


def rewritten(file, path, change):
    save_file(change(load_file(file)), path)
    return path


@torch.no_grad()
def computed(model):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    embeds = model.embed(["a (red:1.2) ball", ""])
    frames = model.decode(latents)
    return embeds, model.predict_noise(latents, 401, embeds), frames, model.encode(frames)


def test_it_is_the_folders_model(both):
    ours, theirs = opened(both), load_backbone(str(both[0]), device="cpu")
    assert (ours.family, ours.native_size, ours.schedule) == ("sdxl", 1024, theirs.schedule)
    for one, other in zip(computed(ours), computed(theirs), strict=True):
        assert_close(one, other)


def test_diffusers_reads_the_same(both):
    """Its own converter, offline, with the folder for configurations."""
    from diffusers import StableDiffusionXLPipeline

    theirs = StableDiffusionXLPipeline.from_single_file(
        str(both[1]), config=str(both[0]), local_files_only=True, add_watermarker=False
    )
    hidden, _, pooled, _ = theirs.encode_prompt("a red ball", device="cpu", do_classifier_free_guidance=False)
    ours = opened(both)
    embeds = ours.embed(["a red ball"])
    assert_close(embeds[:, :-1], hidden)
    assert_close(embeds[:, -1, :POOLED], pooled)
    latents = torch.randn(1, 4, 8, 8)
    sizes = torch.tensor([[64, 64, 0, 0, 64, 64]], dtype=torch.float32)
    with torch.no_grad():
        noise = theirs.unet(
            latents, 401, hidden, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}
        ).sample
        assert_close(ours.predict_noise(latents, 401, embeds), noise)


def test_half_precision_and_a_v_prediction_are_seen(both, tmp_path):
    def change(tensors):
        return {n: t.half() for n, t in tensors.items()} | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}

    model = opened(both, rewritten(both[1], tmp_path / "v.safetensors", change))
    assert model.schedule.prediction_type == "v_prediction"
    assert_close(model.embed(["a"]), opened(both).embed(["a"]), within=0.02)


@pytest.mark.parametrize("prefix", [FIRST, SECOND])
def test_a_missing_encoder_is_a_sentence(both, tmp_path, prefix):
    def change(tensors):
        return {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}

    with pytest.raises(
        WeightsError, match=r"holds no text encoder \(conditioner\.embedders\.[01]\..*has one\."
    ):
        opened(both, rewritten(both[1], tmp_path / "a.safetensors", change))


def test_the_refiner_is_refused_by_name(both, tmp_path):
    def change(tensors):
        renamed = {name.replace(SECOND, "conditioner.embedders.0.model."): t for name, t in tensors.items()}
        return {name: tensor for name, tensor in renamed.items() if not name.startswith(FIRST)}

    path = rewritten(both[1], tmp_path / "refiner.safetensors", change)
    with pytest.raises(WeightsError, match="is a checkpoint of the refiner of Stable Diffusion XL; use"):
        opened(both, path)
    assert describe_file(path).used_as is None


def test_edm_is_refused_by_name(both, tmp_path):
    path = rewritten(both[1], tmp_path / "a.safetensors", lambda t: t | {"edm_mean": torch.zeros(4)})
    with pytest.raises(WeightsError, match="noise levels of EDM"):
        opened(both, path)


def test_the_file_says_what_it_is(both):
    found = describe_file(both[1])
    assert (found.said, found.used_as) == ("a checkpoint of Stable Diffusion XL", "model")


def test_clips_tokenizer_needs_clips_words(both):
    with pytest.raises(WeightsError, match="knows 514 tokens and CLIP's tokenizer has"):
        load_backbone(str(both[1]), device="cpu").embed(["a"])


def test_an_autoencoder_in_a_file_is_scaled_as_sdxls(both, tmp_path):
    path = tmp_path / "vae.safetensors"
    save_file({n: t.contiguous() for n, t in autoencoder_tensors(sd_vae(5), "").items()}, path)
    model = load_backbone(str(both[0]), device="cpu", vae=str(path))
    assert (model.vae.config.scaling_factor, model.vae.config.force_upcast) == (0.13025, True)
    assert opened(both, vae=str(both[1])).vae.config.scaling_factor == 0.13025
