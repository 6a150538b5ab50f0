"""Prompts, noise and pictures of SD-XL, as diffusers' own pipeline has them from the same files."""

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline

from closeness import assert_apart, assert_close
from evenreel.backbones import load_backbone
from evenreel.backbones.text import Embedding
from evenreel.hosts.base import create_host
from hosts.jobs import edit, job_for
from tiny_xl import POOLED, WIDTHS, save_tiny_xl

TOKENS = 77


def their_pipeline(folder):
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, clip_sample=False, set_alpha_to_one=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def theirs(saved):
    return their_pipeline(saved)


def taken_apart(embeds):
    return embeds[:, :-1], embeds[:, -1, :POOLED]


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_prompts_agree(saved, theirs, clip_skip):
    backbone = load_backbone(str(saved), device="cpu", clip_skip=clip_skip)
    expected = theirs.encode_prompt("a red ball", device="cpu", clip_skip=clip_skip - 1)
    hidden, pooled = taken_apart(backbone.embed(["a red ball", ""]))
    assert_close(hidden, torch.cat(expected[:2]))
    assert_close(pooled, torch.cat(expected[2:]))
    assert not hidden[1].any()  # as the pipeline has it where no negative prompt is told


def test_an_empty_prompt_is_read_where_the_model_was_trained_so(tmp_path):
    backbone = load_backbone(str(save_tiny_xl(tmp_path, force_zeros_for_empty_prompt=False)), device="cpu")
    expected = their_pipeline(tmp_path).encode_prompt("a", device="cpu")
    hidden, pooled = taken_apart(backbone.embed([""]))
    assert_close(hidden, expected[1])
    assert_close(pooled, expected[3])


def test_a_long_prompt_is_read_in_chunks_and_pooled_by_the_first(tiny, theirs):
    first, second = "a red ball " * 8, "a blue star " * 7
    hidden, pooled = taken_apart(tiny.embed([f"{first}BREAK {second}", "a"]))
    alone = [taken_apart(tiny.embed([text])) for text in (first.strip(), second.strip())]
    assert hidden.shape == (2, 2 * TOKENS, sum(WIDTHS))
    assert_close(hidden[:1], torch.cat([states for states, _ in alone], dim=1))
    assert_close(pooled[:1], alone[0][1])
    letters = taken_apart(tiny.embed(["a " * 100]))
    start = taken_apart(tiny.embed(["a " * 75]))
    assert letters[0].shape[1] == 2 * TOKENS
    assert_close(letters[1], start[1])
    short = theirs.encode_prompt("a", device="cpu")
    assert_close(hidden[1:, :TOKENS], short[0])
    assert_close(pooled[1:], short[2])


def test_a_weight_moves_hidden_states_away_from_the_empty_prompt(tiny, theirs):
    plain, _ = taken_apart(tiny.embed(["a ball"]))
    weighed, pooled = taken_apart(tiny.embed(["a (ball:1.3)"]))
    empty = theirs.encode_prompt("", device="cpu")[0]
    changed = (weighed - plain).abs().amax((0, 2)) > 0
    assert changed.nonzero().flatten().tolist() == [2, 3, 4, 5]  # every letter is a token
    assert_close(weighed[:, changed], (empty + 1.3 * (plain - empty))[:, changed])
    assert torch.equal(pooled, taken_apart(tiny.embed(["a ball"]))[1])


def test_embeddings_of_two_vectors_go_before_each_encoder(tiny):
    """The end mark is where texts are pooled, so an embedding must not look like one."""
    tables = [encoder.get_input_embeddings().weight for encoder in tiny.text.text_encoders]
    (token,) = tiny.text.first.tokenizer("b", add_special_tokens=False).input_ids
    word = Embedding("charm", tables[0][[token]], tables[1][[token]])
    expected = tiny.embed(["a b c"])
    with tiny.text.reading("weights", [word]):
        assert torch.equal(tiny.embed(["a charm c"]), expected)


def noise_by_hand(pipeline, latents, timestep, embeds, size):
    hidden, pooled = taken_apart(embeds)
    added = {
        "text_embeds": pooled,
        "time_ids": pipeline._get_add_time_ids(
            size, (0, 0), size, hidden.dtype, text_encoder_projection_dim=POOLED
        ).repeat(len(latents), 1),
    }
    with torch.no_grad():
        return pipeline.unet(latents, timestep, hidden, added_cond_kwargs=added).sample


def test_noise_agrees_row_by_row(tiny, theirs):
    latents, embeds = torch.randn(4, 4, 6, 10), tiny.embed(["a red ball", "a star"])
    with torch.no_grad():
        ours = tiny.predict_noise(latents, 401, embeds)
    expected = noise_by_hand(theirs, latents, 401, embeds.repeat_interleave(2, 0), (48, 80))
    assert_close(ours, expected)
    assert_apart(ours, noise_by_hand(theirs, latents, 401, embeds.repeat_interleave(2, 0), (80, 48)))
    without = embeds.clone()
    without[:, -1] = 0
    with torch.no_grad():
        assert_apart(ours, tiny.predict_noise(latents, 401, without))


def test_frames_agree(tiny, theirs):
    frames, scale = torch.rand(2, 3, 64, 64), theirs.vae.config.scaling_factor
    with torch.no_grad():
        latents = theirs.vae.encode(frames * 2 - 1).latent_dist.mean * scale
        decoded = theirs.vae.decode(latents / scale).sample
    assert scale == 0.13025
    assert_close(tiny.encode(frames), latents)
    assert_close(tiny.decode(latents), (decoded / 2 + 0.5).clamp(0, 1))


@pytest.mark.parametrize(("seed", "levels"), [(0, 4), (11, 2)])
@pytest.mark.parametrize("negative", ["", "blurry"])
def test_text_to_image_agrees(tmp_path, seed, levels, negative):
    """Sizes follow from the autoencoder, also from one with fewer levels."""
    folder = save_tiny_xl(tmp_path, seed=seed, levels=levels)
    backbone, pipeline = load_backbone(str(folder), device="cpu"), their_pipeline(folder)
    rows = backbone.embed(["a red ball", negative])
    job = job_for(
        backbone,
        2,
        steps=4,
        source=False,
        prompt_embeds=rows[:1],
        negative_prompt_embeds=rows[1:],
        guidance_scale=5.0,
    )
    host = create_host("frame", with_source=False)
    ours = edit(backbone, host, job)
    with host.attach(backbone, job) as session:
        noise, _ = session.start()
    expected = pipeline(
        ["a red ball"] * 2,
        negative_prompt=[negative] * 2 if negative else None,
        height=8 * 2 ** (levels - 1),
        width=8 * 2 ** (levels - 1),
        num_inference_steps=4,
        guidance_scale=5.0,
        latents=noise.float(),
        output_type="latent",
    ).images
    assert_close(ours, expected)
