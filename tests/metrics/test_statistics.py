"""Intervals of means over clustered values."""

import numpy as np
import pytest

from evenreel.metrics.statistics import cluster_bootstrap, effect_size, holm


def test_independent_values_give_the_usual_interval():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    estimate = cluster_bootstrap(list(values), range(400))
    half = 1.96 * values.std() / 20
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.08)


def test_copies_of_a_value_add_no_certainty():
    values = list(np.random.default_rng(1).normal(size=30))
    once = cluster_bootstrap(values, range(30))
    often = cluster_bootstrap(values * 10, list(range(30)) * 10)
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    assert often.count == 30


def test_it_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = [
        not cluster_bootstrap(list(rng.normal(size=40)), range(40), resamples=400, seed=k).excludes(0.0)
        for k in range(200)
    ]
    assert 0.89 <= np.mean(hits) <= 0.99


def test_nothing_to_average():
    with pytest.raises(ValueError, match="at least one"):
        cluster_bootstrap([], [])


def test_holm_adjusts_as_published():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_clear_difference_has_a_small_p_and_none_has_a_large_one():
    rng = np.random.default_rng(3)
    assert cluster_bootstrap(list(rng.normal(1, 1, 30)), range(30)).p < 0.01
    assert cluster_bootstrap([1.0, -1.0, 2.0, -2.0], range(4)).p > 0.5


def test_effect_size():
    assert effect_size([1.0, 3.0]) == pytest.approx(2 / 2**0.5)
    assert effect_size([2.0, 2.0]) is None
