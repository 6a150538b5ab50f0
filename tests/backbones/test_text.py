"""Which tokens make up a word."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evenreel.backbones.prompt_syntax import parse, strange
from evenreel.backbones.text import Embedding, PromptEncoder
from evenreel.errors import SettingsError
from tiny import tiny_text_encoder, tiny_tokenizer

ENCODER = PromptEncoder(tiny_tokenizer(), tiny_text_encoder())
printable = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
plain = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="()[]\\")
"""Without those that mean something in prompts."""


def test_words_are_what_stands_between_spaces():
    tokens = ENCODER.tokens("a cat,  twice")
    assert tokens.words == ("a", "cat,", "twice")
    assert tokens.tokens_of_words == (
        (1,),
        (2, 3, 4, 5),
        (6, 7, 8, 9, 10),
    )  # letters are this tokenizer's tokens
    assert len(tokens.ids) == 12
    assert tokens.length == 77


def test_the_empty_prompt_has_two_tokens_and_no_words():
    tokens = ENCODER.tokens("")
    assert (len(tokens.ids), tokens.words, tokens.tokens_of_words) == (2, (), ())


@pytest.mark.parametrize("prompt", ["café naïve", "日本 #x", "It's 1/2", "ÅNGSTRÖM fi"])
def test_letters_of_several_tokens_belong_to_their_word(prompt):
    tokens = ENCODER.tokens(prompt)
    for word, positions in zip(tokens.words, tokens.tokens_of_words, strict=True):
        alone = ENCODER.tokens(word).ids[1:-1]
        assert tuple(tokens.ids[position] for position in positions) == alone


@given(st.text(plain, max_size=15))
def test_every_token_belongs_to_one_word(prompt):
    tokens = ENCODER.tokens(prompt)
    assert tokens.ids == tuple(ENCODER.tokenize([prompt])[0, : len(tokens.ids)].tolist())
    positions = [position for word in tokens.tokens_of_words for position in word]
    if tokens.words:
        assert positions == list(range(1, len(tokens.ids) - 1))


def test_a_prompt_that_is_too_long_is_refused():
    with pytest.raises(SettingsError, match="76 tokens"):
        ENCODER.tokenize(["x" * 76])


def embedded(prompt, **settings):
    return PromptEncoder(tiny_tokenizer(), tiny_text_encoder(), **settings).embed([prompt])


def test_a_weight_moves_a_word_away_from_the_empty_prompt():
    plain, heavy, empty = embedded("a cat"), embedded("a (cat:1.5)"), embedded("")
    words = slice(2, 5)  # letters are this tokenizer's tokens
    wanted = empty[:, words] + 1.5 * (plain[:, words] - empty[:, words])
    assert torch.allclose(heavy[:, words], wanted, atol=1e-6)
    assert torch.equal(heavy[:, :2], plain[:, :2])
    assert torch.equal(embedded("a (cat:1.0)"), plain)


@pytest.mark.parametrize(
    ("prompt", "same"),
    [
        ("a (cat)", "a (cat:1.1)"),
        ("a ((cat))", "a (cat:1.21)"),
        ("a [cat]", "a (cat:0.9090909090909091)"),
        ("(a (cat:2):1.5)", "(a :1.5)(cat:3)"),
    ],
)
def test_brackets_are_weights(prompt, same):
    assert torch.allclose(embedded(prompt), embedded(same), atol=1e-5)
    assert not torch.allclose(embedded(prompt), embedded("a cat"), atol=1e-3)


def test_plain_prompts_are_read_to_the_letter():
    ids = PromptEncoder(tiny_tokenizer(), tiny_text_encoder(), syntax="plain").tokens("a (b:1.2)").ids
    assert ids == tuple(tiny_tokenizer()("a (b:1.2)").input_ids)


def test_long_prompts_are_chunks_of_75():
    long = "x" * 80
    ids = tiny_tokenizer()(long).input_ids
    with torch.no_grad():
        first = tiny_text_encoder()(torch.tensor([[ids[0], *ids[1:76], ids[-1]]])).last_hidden_state
    states = embedded(long)
    assert states.shape[1] == 2 * 77
    assert torch.allclose(states[:, :77], first, atol=1e-6)
    tokens = ENCODER.tokens(long)
    assert tokens.length == 154
    assert tokens.tokens_of_words == ((*range(1, 76), *range(78, 83)),)


def test_break_begins_another_chunk():
    states = embedded("a cat BREAK a dog")
    assert torch.allclose(states, torch.cat([embedded("a cat"), embedded("a dog")], 1), atol=1e-6)


@pytest.mark.parametrize(
    ("prompt", "same"),
    [
        ("(a cat BREAK a dog:1.4)", "(a cat:1.4) BREAK (a dog:1.4)"),
        ("[x (a BREAK b)] c", "[x (a)] BREAK [(b)] c"),
    ],
)
def test_brackets_around_a_break_weigh_both_sides(prompt, same):
    assert parse(prompt) == parse(same)
    assert not strange(prompt)
    assert torch.equal(embedded(prompt), embedded(same))


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a cat, [ugly:0.5]", ["[ugly:0.5]"]),
        ("[(ugly:1.3):10] cat", ["[(ugly:1.3):10]"]),
        ("[a (cat:1.2):a dog:0.5]", ["[a (cat:1.2):a dog:0.5]"]),
        ("a [cat|dog] or [a [cow|] moos]", ["[cat|dog]", "[cow|]"]),
        ("[a [cat|dog]:0.5]", ["[a [cat|dog]:0.5]"]),
        ("a {{big}} {cat|dog}, {{big}}", ["{{big}}", "{cat|dog}"]),
        ("(a [b) c]", ["a bracket without its other one"]),
        ("(a BREAK b", ["a bracket without its other one"]),
    ],
)
def test_what_has_a_meaning_elsewhere_is_told(prompt, said):
    assert list(strange(prompt)) == said
    # and is read to the letter: nothing but whole brackets around it weighs
    read = "".join(segment.text for chunk in parse(prompt) for segment in chunk)
    assert all(one in read for one in said if "without" not in one)


@pytest.mark.parametrize(
    "prompt", [r"\[ugly:0.5\]", "[(a:1.2), (b:1.3)]", "[word]", "a: cat, at 10:30", "a|b"]
)
def test_what_has_no_other_meaning_is_not_told(prompt):
    assert strange(prompt) == ()


def test_shorter_prompts_beside_longer_ones_are_filled_up():
    states = ENCODER.embed(["a cat BREAK a dog", "a cat"])
    assert torch.allclose(states[1:], torch.cat([embedded("a cat"), embedded("")], 1), atol=1e-6)


def test_an_embedding_is_what_the_text_encoder_makes_of_its_vectors():
    """Beside transformers' own way: more words in the encoder's table."""
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    ours = embedded("a Cat!", embeddings=[Embedding("cat", vectors)])
    encoder, tokenizer = tiny_text_encoder(), tiny_tokenizer()
    tokenizer.add_tokens(["<one>", "<two>"])
    encoder.resize_token_embeddings(encoder.config.vocab_size + 2, mean_resizing=False)
    with torch.no_grad():
        encoder.get_input_embeddings().weight[-2:] = vectors
        ids = tokenizer("a <one><two>!", padding="max_length", max_length=77, return_tensors="pt").input_ids
        wanted = encoder(ids).last_hidden_state
    assert torch.allclose(ours, wanted, atol=1e-5)


def test_brackets_that_are_too_deep_are_refused():
    assert parse("[" * 100 + "a" + "]" * 100)[0][0].text == "a"
    with pytest.raises(SettingsError, match="more than 100 deep"):
        parse("[" * 1200 + "a" + "]" * 1200)
    assert parse("[" * 1200)[0][0].text == "[" * 1200
