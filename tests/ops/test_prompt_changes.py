"""Changes of words, each by itself."""

import pytest

from evenreel.ops.prompt_changes import MOST_APART, changes_apart, is_another_thing


@pytest.mark.parametrize(
    ("source", "prompt", "apart"),
    [
        ("a red ball on sand", "a blue ball on snow", ("a blue ball on sand", "a red ball on snow")),
        (
            "an orange ball on sand",
            "a dotted ball on sand, poster",
            ("a dotted ball on sand", "an orange ball on sand, poster"),
        ),
        ("a red ball on sand", "a ball on snow", ("a ball on sand", "a red ball on snow")),
    ],
)
def test_each_change_by_itself(source, prompt, apart):
    assert changes_apart(source, prompt) == apart


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        ("a red ball", "a red ball"),
        ("a red ball on sand", "a blue ball on sand"),
        ("", "a ball"),
        ("a (red:1.2) ball on sand", "a (blue:1.2) ball on snow"),
        (" x ".join("abcdef"), " x ".join("ghijkl")),
    ],
)
def test_one_change_none_weights_and_many_are_not_taken_apart(source, prompt):
    assert changes_apart(source, prompt) == ()
    assert MOST_APART < 6


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        ("a red ball on sand", "a red cube on sand"),
        ("a red ring rolling over sand, poster", "a red cross rolling over sand, poster"),
        ("a cat", "a dog"),
        ("A wolf.", "A fox."),
        ("a castle, oil painting", "a tower, oil painting"),
        ("a dotted ring walking on sand", "a striped star walking on sand"),
    ],
)
def test_another_thing(source, prompt):
    assert is_another_thing(source, prompt)
    assert is_another_thing(prompt, source)


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        ("a red ball on sand", "a blue ball on sand"),
        (
            "a striped ring rolling over sand",
            "a dotted ring rolling over sand",
        ),  # no participle, for all its letters
        ("a striped walking figure on sand", "a dotted walking figure on sand"),
        ("a ball on sand", "a dotted ball on sand"),
        ("a ball", "a ball with dots"),
        ("a red ball on sand", "a red cube on snow"),
        ("a red (ball:1.2) on sand", "a red (cube:1.2) on sand"),
        ("a red ball", "a red ball"),
        ("", "a ball"),
    ],
)
def test_the_same_thing_or_more_than_another(source, prompt):
    assert not is_another_thing(source, prompt)
    assert not is_another_thing(prompt, source)
