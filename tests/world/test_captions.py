"""Captions, read back."""

import pytest

from evenreel.world import captions, random_scene
from evenreel.world.captions import understood


@pytest.mark.parametrize("first", [0, 1000])
def test_every_caption_is_understood(first):
    for seed in range(first, first + 150):
        scene = random_scene(seed)
        for text in captions(scene, 8):
            assert understood(text) == scene.attributes(), text


@pytest.mark.parametrize(
    "text",
    ["", "a man skiing", "a red car on snow", "a blue star", "a star over snow", "red blue star on snow"],
)
def test_other_texts_are_not(text):
    assert understood(text) is None


def test_case_and_commas_do_not_matter():
    assert understood("A Blue STAR, rolling over Snow.") == understood("a blue star rolling over snow")
