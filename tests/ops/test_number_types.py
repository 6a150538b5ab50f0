"""Rates of matrix products: measured once, and nothing else changes."""

import itertools
from math import inf
from types import SimpleNamespace

import pytest
import torch

from evenreel.ops import number_types
from evenreel.ops.number_types import is_slow, matmul_rate, rate_text


@pytest.fixture
def unmeasured():
    number_types._measured.cache_clear()
    yield
    number_types._measured.cache_clear()


def test_a_rate_is_counted_in_gflops(unmeasured, monkeypatch):
    """A clock on which every product takes 20 ms, so that one is enough."""
    moments = itertools.count(0.0, 0.02)
    monkeypatch.setattr(number_types, "time", SimpleNamespace(perf_counter=lambda: next(moments)))
    assert matmul_rate(torch.float32) == pytest.approx(2 * 256**3 / 0.02 / 1e9)


def test_this_machine_has_a_rate(unmeasured):
    assert 0 < matmul_rate(torch.float32) < inf


def test_nothing_else_changes(unmeasured):
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        matmul_rate(torch.float32)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_num_threads() == threads


def test_it_is_measured_once(unmeasured, monkeypatch):
    sizes = []

    def seconds(size, dtype, device):
        sizes.append(size)
        return 1e-3 if size < 1024 else 1e-2

    monkeypatch.setattr(number_types, "_seconds", seconds)
    assert matmul_rate(torch.float32) == matmul_rate(torch.float32, torch.device("cpu"))
    assert sizes == [256, 512, 1024]  # larger ones until one takes long enough
    assert matmul_rate(torch.float32) == pytest.approx(2 * 512**3 / 1e-3 / 1e9)


def test_a_type_that_a_device_does_not_know_is_slow(unmeasured, monkeypatch):
    def refuse(size, dtype, device):
        raise RuntimeError("not implemented")

    monkeypatch.setattr(number_types, "_seconds", refuse)
    assert matmul_rate(torch.bfloat16) == 0
    assert is_slow(torch.bfloat16)


@pytest.mark.parametrize(("rate", "slow"), [(0.97, True), (30.0, True), (75.0, False), (300.0, False)])
def test_slow_means_clearly_slower_than_float32(monkeypatch, rate, slow):
    rates = {torch.float32: 75.0, torch.bfloat16: rate}
    monkeypatch.setattr(number_types, "_measured", lambda dtype, device: rates[dtype])
    assert is_slow(torch.bfloat16) == slow
    assert not is_slow(torch.float32)


def test_words(monkeypatch):
    monkeypatch.setattr(number_types, "_measured", lambda dtype, device: 0.97)
    assert rate_text(torch.bfloat16) == "1.0 GFLOP/s"
