"""Adapters' training loop: resumed bit for bit, alike on one process and on two, stopped by NaN with nothing lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from evenreel.errors import SettingsError
from evenreel.training.accelerated import AcceleratedSettings, AcceleratedTraining
from training.toy_training import SETTINGS, Toy, draw, run

STEPS = 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder, STEPS)


def state(folder: Path):
    return load_file(folder / "state.safetensors")


def processes_of(folder: Path):
    with safe_open(folder / "state.safetensors", "pt") as file:
        return json.loads(file.metadata()["evenreel"])["processes"]


def test_training_lowers_the_loss(whole):
    _, losses = whole
    assert len(losses) == STEPS
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_only_what_is_trained_is_saved(whole):
    folder, _ = whole
    assert not any("frozen" in name for name in state(folder))


def test_resumed_weights_are_the_same_bit_for_bit(whole, tmp_path):
    for stop in (1, 4, 9):
        run(tmp_path, STEPS, stop)
    run(tmp_path, STEPS)
    ours, theirs = state(tmp_path), state(whole[0])
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_two_processes_follow_one(whole, tmp_path):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += [
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
    ]
    script = str(Path(__file__).with_name("toy_training.py"))
    for more in (("6",), ()):  # cut once, and resumed
        # what counts is the state that is left: torch's gloo now and then aborts a process that is about to exit
        subprocess.run([*launch, script, str(tmp_path), str(STEPS), *more], capture_output=True, check=False)
    assert processes_of(tmp_path) == 2  # `accelerate launch --cpu` starts one, whatever number it is told
    ours, theirs = state(tmp_path), state(whole[0])
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs if "/step" not in name)


def test_the_gradient_of_a_step_is_that_of_all_its_micro_batches(tmp_path):
    """An independent computation: one plain AdamW step on the mean of the micro-batches' losses."""
    run(tmp_path, 1)
    ours = state(tmp_path)
    toy = Toy()
    loss = torch.stack([toy(draw(micro))[0] for micro in range(4)]).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(toy.learned.parameters(), 1.0)
    optimizer = torch.optim.AdamW(
        toy.learned.parameters(), lr=SETTINGS["learning_rate"] / 3, betas=(0.9, 0.999), weight_decay=0.01
    )
    optimizer.step()
    for name, value in toy.learned.named_parameters():
        assert torch.allclose(ours[f"model.learned.{name}"], value, atol=1e-7)


def test_warm_up_really_warms_up():
    settings = AcceleratedSettings(steps=10, learning_rate=1e-3, warmup=4)
    assert [settings.rate(k) for k in range(6)] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 1e-3])


def test_the_rate_falls_to_its_end():
    settings = AcceleratedSettings(steps=4, learning_rate=1.0, warmup=1, final_rate=0.2)
    assert [settings.rate(k) for k in range(5)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_states_lie_between_what_belongs_together(tmp_path):
    settings = AcceleratedSettings(**{**SETTINGS, "checkpoint_seconds": 0.0}, steps=6)
    training = AcceleratedTraining(Toy(), settings, tmp_path, device="cpu", unit=3)
    saved = []
    for _ in training.run(draw):
        found = training.path.exists()
        saved.append(AcceleratedTraining(Toy(), settings, tmp_path, device="cpu").step if found else 0)
    assert saved == [0, 0, 3, 3, 3, 6]
    with pytest.raises(SettingsError, match="multiple of 4"):
        AcceleratedTraining(Toy(), settings, tmp_path / "other", device="cpu", unit=4)


def test_nan_stops_it_and_the_last_good_state_stays(tmp_path):
    run(tmp_path, STEPS, 5)
    before = (tmp_path / "state.safetensors").read_bytes()
    training = AcceleratedTraining(
        Toy(), AcceleratedSettings(steps=STEPS, **SETTINGS), tmp_path, device="cpu"
    )
    poisoned = (torch.full((5, 6), float("nan")) for _ in iter(int, 1))
    with pytest.raises(FloatingPointError, match="last good state"):
        list(training.run(lambda _: next(poisoned)))
    assert (tmp_path / "state.safetensors").read_bytes() == before


def test_a_state_of_something_else_is_refused(tmp_path):
    run(tmp_path, 1)
    with pytest.raises(SettingsError, match="another training"):
        AcceleratedTraining(torch.nn.Linear(3, 3), AcceleratedSettings(steps=2), tmp_path, device="cpu")


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"precision": "int8"}, {"learning_rate": 0.0}, {"warmup": -1}]
)
def test_settings_that_cannot_be(wrong):
    with pytest.raises(SettingsError):
        AcceleratedSettings(**{"steps": 1, **wrong})
