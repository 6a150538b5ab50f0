"""Changes of words, each by itself."""

import pytest

from evenreel.ops.prompt_changes import MOST_APART, changes_apart


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
