"""How many steps fit into some minutes."""

import pytest

from evenreel.training.length import Length
from evenreel.training.loop_settings import LoopSettings


def run(pace, *, first=None, **told):
    """Steps and seconds of a run whose steps take `pace` seconds each, the first one perhaps longer."""
    length = Length(LoopSettings(**{"steps": None, "minutes": 2.0, "warmup": 1, **told}), 1)
    step, seconds = 0, 0.0
    while length.steps is None or step < length.steps:
        seconds += pace if step or first is None else first
        step += 1
        length.follow(step, seconds)
    return step, seconds


@pytest.mark.parametrize("decay", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("first", [None, 20.0])
def test_the_time_is_used(decay, first):
    """Also where the first step takes far longer, as it does where much is made there."""
    step, seconds = run(0.5, first=first, decay=decay)
    assert seconds == pytest.approx(120, abs=1)
    assert step == pytest.approx(240 if first is None else 201, abs=2)


def test_steps_that_are_told_are_not_made_more():
    assert run(0.5, steps=100) == (100, 50.0)


def test_no_minutes_no_end():
    length = Length(LoopSettings(steps=7, minutes=None, warmup=1), 1)
    length.follow(3, 1e9)
    assert length.steps == 7


def test_it_lies_between_steps_that_belong_together():
    settings = LoopSettings(steps=None, minutes=1.0, warmup=1, decay=0.5)
    length = Length(settings, 8)
    for step in range(1, 200):
        length.follow(step, 0.7 * step)
    assert length.steps is not None
    assert length.steps % 8 == 0
