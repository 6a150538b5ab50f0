"""Which tokens make up a word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenreel.backbones.text import PromptEncoder
from evenreel.errors import SettingsError
from tiny import tiny_text_encoder, tiny_tokenizer

ENCODER = PromptEncoder(tiny_tokenizer(), tiny_text_encoder())
printable = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])


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


@given(st.text(printable, max_size=15))
def test_every_token_belongs_to_one_word(prompt):
    tokens = ENCODER.tokens(prompt)
    assert tokens.ids == tuple(ENCODER.tokenize([prompt])[0, : len(tokens.ids)].tolist())
    positions = [position for word in tokens.tokens_of_words for position in word]
    if tokens.words:
        assert positions == list(range(1, len(tokens.ids) - 1))


def test_a_prompt_that_is_too_long_is_refused():
    with pytest.raises(SettingsError, match="76 tokens"):
        ENCODER.tokenize(["x" * 76])
