"""Attention that comes from the source, against the same written out with probabilities."""

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0

from closeness import assert_apart, assert_close
from evenreel.backbones.hooks import processors_installed
from evenreel.backbones.text import PromptEncoder
from evenreel.errors import SettingsError
from evenreel.hosts.prompt_to_prompt import (
    PromptMap,
    PromptToPromptState,
    SourceSelf,
    SourceText,
    controlled,
    map_prompts,
)
from tiny import tiny_text_encoder, tiny_tokenizer, tiny_unet

ENCODER = PromptEncoder(tiny_tokenizer(), tiny_text_encoder())
WIDTH, TEXT, HEADS, FRAMES, PLACES, TOKENS = 16, 12, 2, 3, 5, 7


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attention(cross=TEXT, **kwargs):
    torch.manual_seed(0)
    attn = Attention(WIDTH, cross, heads=HEADS, dim_head=WIDTH // HEADS, **kwargs).eval()
    with torch.no_grad():
        attn.to_q.weight.mul_(4)
    return attn


def prompt_map():
    return PromptMap(taken=random(TOKENS, TOKENS, seed=3).abs(), kept=random(TOKENS, seed=4).abs())


def written_out(attn, hidden_states, seen, branches, source, change):
    """Explicit attention, `change` of the source's and the edit's probabilities in place of the edit's own."""
    query, key, value = (
        attn.head_to_batch_dim(project(rows))
        for project, rows in ((attn.to_q, hidden_states), (attn.to_k, seen), (attn.to_v, seen))
    )
    probabilities = list(attn.get_attention_scores(query, key).chunk(branches))
    probabilities[-1] = change(probabilities[source], probabilities[-1])
    return attn.to_out[0](attn.batch_to_head_dim(torch.cat(probabilities) @ value))


@pytest.mark.parametrize("processor", [AttnProcessor2_0, AttnProcessor])
@pytest.mark.parametrize(("branches", "source"), [(2, 0), (3, 0), (4, 2)])
@torch.no_grad()
def test_attention_to_the_prompt(branches, source, processor):
    attn, prompts = attention(processor=processor()), prompt_map()
    hidden_states = random(branches * FRAMES, PLACES, WIDTH)
    text = random(branches * FRAMES, TOKENS, TEXT, seed=1)
    plain = attn(hidden_states, text)
    expected = written_out(attn, hidden_states, text, branches, source, prompts.apply)
    state = PromptToPromptState(branches=branches, source=source, prompts=prompts)
    attn.set_processor(SourceText(attn.processor, state))
    output = attn(hidden_states, text)
    assert_close(output, expected)
    assert_close(output[:-FRAMES], plain[:-FRAMES])
    assert_apart(output[-FRAMES:], plain[-FRAMES:], by=0.01)
    state.prompts = None
    assert torch.equal(attn(hidden_states, text), plain)


@torch.no_grad()
def test_self_attention_of_coarse_layers():
    attn = attention(cross=None)
    hidden_states = random(3 * FRAMES, PLACES, WIDTH)
    plain = attn(hidden_states)
    expected = written_out(attn, hidden_states, hidden_states, 3, 0, lambda source, _: source)
    state = PromptToPromptState(branches=3, self_attention=True, latent_size=(8, 10))
    attn.set_processor(SourceSelf(attn.processor, state))
    output = attn(hidden_states)
    assert_close(output, expected)
    assert_apart(output[-FRAMES:], plain[-FRAMES:], by=0.01)
    for finer in ({"latent_size": (8, 9)}, {"self_attention": False}):
        attn.processor.state = PromptToPromptState(
            branches=3, **{"self_attention": True, "latent_size": (8, 10), **finer}
        )
        assert torch.equal(attn(hidden_states), plain)


def test_a_map_of_equal_prompts_changes_nothing():
    tokens = ENCODER.tokens("a red ball")
    prompts = map_prompts(tokens, tokens)
    source, target = random(2, 4, 77).softmax(-1)
    assert torch.equal(prompts.apply(source, target), source)


def test_swapped_words_take_over():
    prompts = map_prompts(ENCODER.tokens("a cat"), ENCODER.tokens("a bird"))
    source, target = random(2, 4, 77).softmax(-1)
    edited = prompts.apply(source, target)
    assert torch.equal(edited[:, :2], source[:, :2])
    assert_close(edited[:, 2:6], source[:, 2:5].sum(1, keepdim=True).expand(-1, 4) / 4)
    assert_close(edited.sum(-1), torch.ones(4))


def test_added_words_keep_their_own():
    prompts = map_prompts(ENCODER.tokens("a cat"), ENCODER.tokens("a red cat"))
    source, target = random(2, 4, 77).softmax(-1)
    edited = prompts.apply(source, target)
    assert torch.equal(edited[:, 2:5], target[:, 2:5])
    assert torch.equal(edited[:, 5:], source[:, 2:-3])


def test_fused_projections_are_refused():
    attn = attention(cross=None)
    attn.fused_projections = True
    state = PromptToPromptState(branches=2, self_attention=True, latent_size=(64, 64))
    attn.set_processor(SourceSelf(attn.processor, state))
    with pytest.raises(SettingsError, match="unfuse"):
        attn(random(2, PLACES, WIDTH))


@torch.no_grad()
def test_half_precision_stays_half_precision():
    unet = tiny_unet().to(torch.bfloat16)
    state = PromptToPromptState(branches=2, prompts=map_prompts(*map(ENCODER.tokens, ("a cat", "a bird"))))
    latents, text = random(2, 4, 8, 8).bfloat16(), random(2, 77, 32).bfloat16()
    with processors_installed(unet, controlled(unet, state)):
        assert unet(latents, 1, text).sample.dtype is torch.bfloat16
