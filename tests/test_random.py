"""Draws follow from a seed and what they are for."""

import torch

from evenreel.random import generator


def drawn(*key):
    return torch.randn(4, generator=generator(*key))


def test_equal_keys_draw_the_same():
    for key in ((3,), (3, 1), (3, 1, 2), (2**63 - 1, 999, 10**6)):
        assert torch.equal(drawn(*key), drawn(*key))


def test_other_keys_draw_others():
    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    draws = [drawn(*key) for key in keys]
    for index, one in enumerate(draws):
        assert not any(torch.equal(one, other) for other in draws[:index])


def test_the_global_generator_does_not_matter():
    torch.manual_seed(1)
    first = drawn(5, 1)
    torch.manual_seed(2)
    assert torch.equal(drawn(5, 1), first)


def test_draws_of_before_are_kept():
    """Recorded edits repeat: these are the seeds that steps, and noise of frames, have had from the beginning."""
    assert generator(3, 5).initial_seed() == 3 * 1_000_003 + 5 * 7_919 + 12_345
    assert generator(3, 981, 2).initial_seed() == 3 * 1_000_003 + 981 * 7_919 + 2 * 104_729 + 54_321
