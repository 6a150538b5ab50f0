import pytest

from evenreel.adapters.window import INFERENCE, TRAINING, Window
from evenreel.errors import SettingsError


def test_the_papers_windows():
    assert TRAINING.timesteps(1000) == range(500, 1000)
    assert INFERENCE.timesteps(1000) == range(900, 1000)
    assert INFERENCE.holds(900, 1000)
    assert not INFERENCE.holds(899, 1000)


def test_both_ends_belong_to_it_whatever_the_rounding():
    for hundredth in range(100):
        share = hundredth / 100
        assert Window(share, share).timesteps(1000) == range(hundredth * 10, hundredth * 10 + 1)


def test_other_schedules():
    assert Window(0.25, 0.5).timesteps(8) == range(2, 5)
    assert Window(0.26, 0.3).timesteps(8) == range(0)


def test_text():
    assert Window.parse("0.9:1.0") == Window(0.9, 1.0)
    assert Window.parse("0.5") == Window(0.5, 1.0)
    assert Window.parse(str(Window(0.25, 0.75))) == Window(0.25, 0.75)


@pytest.mark.parametrize("text", ["", "a:b", "0.9:", ":1", "0.5:0.4", "-0.1:1", "0:1.1", "nan:1", "0:1:1"])
def test_what_is_no_window_is_refused(text):
    with pytest.raises(SettingsError, match=r"a window must be START:END"):
        Window.parse(text)
