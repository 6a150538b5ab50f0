"""A training that is cut and goes on must end at the very same weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from evenreel.training.loop import LoopSettings, Training, write_aside

SETTINGS = LoopSettings(steps=12, learning_rate=1e-2, warmup=3, checkpoint_seconds=1e9)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1)
    )


def loss_of(network: nn.Module):
    def loss(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        x = torch.randn(4, 3, 8, 8, generator=generator)
        return (network(x) - x.roll(1, -1)).square().mean(), {}

    return loss


def run(folder: Path, stop: int | None = None, settings: LoopSettings = SETTINGS) -> dict[str, Tensor]:
    training = Training("part", model(), settings, folder)
    for step, _ in training.run(loss_of(training.model)):
        if step == stop:
            training.save()
            break
    return load_file(folder / "part.state.safetensors")


def test_resumed_weights_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    for stop in (1, 5, 11):
        run(tmp_path / "cut", stop)
    resumed = run(tmp_path / "cut")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_steps_after_the_last_checkpoint_are_only_repeated(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    training = Training("part", model(), SETTINGS, tmp_path / "cut")
    for step, _ in training.run(loss_of(training.model)):
        if step == 4:
            training.save()
        if step == 7:
            break
    resumed = run(tmp_path / "cut")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    settings = LoopSettings(steps=150, learning_rate=1e-2, warmup=10)
    training = Training("part", model(), settings, tmp_path)
    losses = [figures["loss"] for _, figures in training.run(loss_of(training.model))]
    assert losses[-1] < 0.7 * losses[0]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(tmp_path: Path) -> None:
    run(tmp_path, stop=5)
    before = (tmp_path / "part.state.safetensors").read_bytes()
    training = Training("part", model(), SETTINGS, tmp_path)
    with pytest.raises(FloatingPointError, match="loss nan at step 5"):
        next(training.run(lambda _: (torch.tensor(float("nan"), requires_grad=True), {})))
    assert (tmp_path / "part.state.safetensors").read_bytes() == before


def test_learning_rate_warms_up_and_falls() -> None:
    settings = LoopSettings(steps=100, learning_rate=1.0, warmup=10)
    rates = [settings.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.01)


def test_nothing_partial_appears_under_the_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    write_aside({"a": torch.zeros(2)}, path)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "no space left on device")))
    with pytest.raises(OSError, match="no space"):
        write_aside({"a": torch.ones(2)}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
