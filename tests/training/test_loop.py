"""The loop of all trainings: cut and resumed bit for bit, lengthened, alike on one process and on two."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from closeness import assert_close
from evenreel.errors import OutputError, SettingsError
from evenreel.settings import read
from evenreel.training.loop import Training
from evenreel.training.loop_settings import LoopSettings
from evenreel.training.states import StateFiles, is_done, recorded_step
from training.toy_training import SETTINGS, Toy, draw, run, training

STEPS = 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder, STEPS)


def state(folder: Path) -> dict[str, Tensor]:
    found = StateFiles(folder, "toy").newest()
    assert found is not None
    return found.tensors


def record(folder: Path) -> dict[str, Any]:
    found = StateFiles(folder, "toy").newest()
    assert found is not None
    return found.record


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_training_lowers_the_loss(whole):
    _, losses = whole
    assert len(losses) == STEPS
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_only_what_is_trained_is_saved(whole):
    assert not any("frozen" in name for name in state(whole[0]))


def test_resumed_weights_are_the_same_bit_for_bit(whole, tmp_path):
    for stop in (1, 4, 9, 33):
        run(tmp_path, STEPS, stop)
    assert not is_done(tmp_path, "toy")
    run(tmp_path, STEPS)
    assert is_done(tmp_path, "toy")
    assert same(state(tmp_path), state(whole[0]))


def test_steps_after_the_last_checkpoint_are_only_repeated(whole, tmp_path):
    begun = training(tmp_path, STEPS)
    for step, _ in begun.run(draw):
        if step == 4:
            begun.save()
        if step == 7:
            break
    run(tmp_path, STEPS)
    assert same(state(tmp_path), state(whole[0]))
    steps = [json.loads(line).get("step") for line in (tmp_path / "toy.log.jsonl").read_text().splitlines()]
    logged = [step for step in steps if step]
    assert logged == list(range(1, STEPS + 1)), "each step stands in the log once"


@pytest.mark.parametrize("stop", [None, 20])
def test_a_lengthened_run_is_the_long_run(whole, tmp_path, stop):
    """Whether it was finished or cut: while the rate is constant, a run knows nothing of its length."""
    run(tmp_path, 28, stop)
    run(tmp_path, STEPS)
    assert same(state(tmp_path), state(whole[0]))
    assert record(tmp_path)["lengthened"] == ([[21, STEPS]] if stop is None else [])


def test_a_shorter_run_than_was_made_is_refused(whole):
    with pytest.raises(SettingsError, match="steps 39 is less than the 40"):
        training(whole[0], STEPS - 1)


def test_minutes_end_it_with_the_rate_fallen(tmp_path, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    begun = training(tmp_path, None, minutes=1.0, warmup=1)
    steps = [step for step, _ in begun.run(draw)]
    assert begun.done
    assert begun.length == len(steps) == record(tmp_path)["length"]
    assert begun.settings.falls_from(len(steps)) < len(steps)
    again = training(tmp_path, None, minutes=1.0, warmup=1)
    assert again.done


@pytest.mark.parametrize("steps", [None, 1000])
def test_minutes_end_a_run_whose_rate_falls_from_the_first_step(tmp_path, monkeypatch, steps):
    """Also where more steps are told than fit: the rate has fallen by then."""
    clock = iter(range(10**6))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    begun = training(tmp_path, steps, minutes=4.0, warmup=1, decay=1.0)
    made = [step for step, _ in begun.run(draw)]
    assert begun.done
    assert 0.8 * 240 < begun.seconds < 1.1 * 240
    assert begun.settings.rate(made[-1] - 1, begun.length) < 0.05 * begun.settings.learning_rate


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_what_minutes_made_shorter_goes_on_where_it_was_cut(tmp_path, monkeypatch, decay):
    """It is not taken for one that is made longer, although more steps are told than fit; more minutes make it so."""
    clock = iter(range(10**6))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    told = {"minutes": 4.0, "warmup": 1, "decay": decay}
    begun = training(tmp_path, 1000, **told)
    for step, _ in begun.run(draw):
        if begun.length < 1000 and step > begun.length / 2:
            begun.save()
            break
    again = training(tmp_path, 1000, **told)
    assert (again.step, again.length, again.lengthened) == (begun.step, begun.length, [])
    assert next(again.run(draw))[0] == begun.step + 1
    for _ in again.run(draw):
        pass
    assert training(tmp_path, 1000, **told).done
    more = training(tmp_path, 1000, **(told | {"minutes": 8.0}))
    assert not more.done
    assert more.length == 1000


def test_minutes_end_a_run_that_becomes_slower(tmp_path, monkeypatch):
    now = 0.0

    def slower():
        nonlocal now
        now += 1.0 if now < 200 else 10.0
        return now

    monkeypatch.setattr("time.monotonic", slower)
    begun = training(tmp_path, None, minutes=4.0, warmup=1, decay=0.5)
    for _ in begun.run(draw):
        pass
    assert 240 <= begun.seconds < 280


def test_two_processes_follow_one(whole, tmp_path, zygote):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--main_process_port", "0"]
    script = Path(__file__).with_name("toy_training.py")
    # what counts is the state that is left: torch's gloo now and then aborts a process that is about to exit
    folder = tmp_path / "run"
    folder.mkdir()
    zygote.run([folder, STEPS, "6"], folder, script=script, processes=2)  # cut once
    assert record(folder)["step"] == 6
    subprocess.run(
        [*launch, script, str(folder), str(STEPS)], capture_output=True, check=False
    )  # and resumed
    assert (
        record(folder)["processes"] == 2
    )  # `accelerate launch --cpu` starts one, whatever number it is told
    ours, theirs = state(folder), state(whole[0])
    assert ours.keys() == theirs.keys()
    largest = max(float(value.abs().max()) for value in theirs.values())
    for name in theirs:
        assert torch.allclose(ours[name], theirs[name], atol=1e-5 * largest, rtol=1e-4), name


def test_the_gradient_of_a_step_is_that_of_all_its_micro_batches(tmp_path):
    """An independent computation: one plain AdamW step on the mean of the micro-batches' losses."""
    run(tmp_path, 3, stop=1, optimizer="adamw", average=0.0)
    ours = state(tmp_path)
    toy = Toy()
    torch.stack([toy(draw(micro))[0] for micro in range(4)]).mean().backward()
    torch.nn.utils.clip_grad_norm_(toy.learned.parameters(), 1.0)
    optimizer = torch.optim.AdamW(
        toy.learned.parameters(), lr=SETTINGS["learning_rate"] / 3, betas=(0.9, 0.999), weight_decay=0.01
    )
    optimizer.step()
    for name, value in toy.learned.named_parameters():
        assert_close(ours[f"model.learned.{name}"], value)


def test_the_rate_rises_stays_and_falls():
    settings = LoopSettings(steps=10, learning_rate=1.0, warmup=4, decay=0.3)
    rates = [settings.rate(step, 10) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 2 / 3, 1 / 3])
    assert [settings.rate(step, None) for step in range(10)] == pytest.approx([0.25, 0.5, 0.75, *[1.0] * 7])
    assert LoopSettings(steps=10, learning_rate=1.0, warmup=0, decay=0.0).rate(9, 10) == 1.0


def test_a_warm_up_that_is_longer_than_the_training_is_shortened_and_that_is_said(tmp_path, caplog):
    settings = LoopSettings(**{**SETTINGS, "warmup": 500, "learning_rate": 1.0, "decay": 0.0}, steps=20)
    assert [settings.rate(step, 20) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]
    list(Training("toy", Toy(), settings, tmp_path).run(draw))
    assert "the warm-up of 500 steps is longer than the training of 20: it is shortened to 2" in caplog.text


def test_states_lie_between_what_belongs_together(tmp_path):
    settings = LoopSettings(**{**SETTINGS, "checkpoint_seconds": 0.0}, steps=6)
    begun = Training("toy", Toy(), settings, tmp_path, unit=3)
    saved = [recorded_step(tmp_path, "toy") for _ in begun.run(draw)]
    assert saved == [0, 0, 3, 3, 3, 6]
    with pytest.raises(SettingsError, match="multiple of 4"):
        Training("toy", Toy(), settings, tmp_path / "other", unit=4)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_stops_it_and_the_last_good_state_stays(tmp_path, value):
    run(tmp_path, STEPS, 5)
    before = state(tmp_path)
    poisoned = (torch.full((5, 6), float(value)) for _ in iter(int, 1))
    with pytest.raises(FloatingPointError, match="last good state"):
        list(training(tmp_path, STEPS).run(lambda _: next(poisoned)))
    assert same(state(tmp_path), before)


def flip(path: Path, places: Iterator[int]) -> None:
    content = bytearray(path.read_bytes())
    for place in places:
        content[place] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("place", [-1, -2000, 200, 4])
def test_a_damaged_state_is_said_and_the_one_before_is_taken(whole, tmp_path, place):
    for stop in (7, 12):
        run(tmp_path, STEPS, stop)
    newest = max(StateFiles(tmp_path, "toy").paths, key=lambda path: StateFiles.read(path).record["step"])
    flip(newest, iter([place]))
    with pytest.warns(UserWarning, match="damaged; the state beside it is taken, step 7"):
        begun = training(tmp_path, STEPS)
    assert begun.step == 7
    for _ in begun.run(draw):
        pass
    assert same(state(tmp_path), state(whole[0])), "no other result, in silence or not"


def test_two_damaged_states_are_an_error(tmp_path):
    for stop in (7, 12):
        run(tmp_path, STEPS, stop)
    for path in StateFiles(tmp_path, "toy").paths:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OutputError, match="damaged, and no other state is left"):
        training(tmp_path, STEPS)


def test_two_trainings_in_one_folder_are_refused(tmp_path):
    steps = training(tmp_path, STEPS).run(draw)
    next(steps)
    with pytest.raises(OutputError, match="another training of toy is at work"):
        next(training(tmp_path, STEPS).run(draw))
    steps.close()
    next(training(tmp_path, STEPS).run(draw))


def test_a_state_of_something_else_is_refused(tmp_path):
    run(tmp_path, 4, 1)
    with pytest.raises(SettingsError, match="another training"):
        Training("toy", torch.nn.Linear(3, 3), LoopSettings(steps=4, warmup=1), tmp_path)


@pytest.mark.parametrize(
    ("change", "named"), [({"learning_rate": 0.5}, "learning_rate"), ({"accumulation": 2}, "accumulation")]
)
def test_a_training_that_goes_on_is_the_one_that_began(tmp_path, change, named):
    run(tmp_path, STEPS, 2)
    with pytest.raises(SettingsError, match=f"begun with {named}"):
        training(tmp_path, STEPS, **change)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": None},
        {"dtype": "int8"},
        {"learning_rate": 0.0},
        {"warmup": -1},
        {"minutes": 0.0},
        {"decay": 1.5},
        {"average": 1.0},
        {"optimizer": "sgd"},
        {"accumulation": 0},
    ],
)
def test_settings_that_cannot_be(wrong):
    with pytest.raises(SettingsError):
        read(LoopSettings, {"steps": 1, "warmup": 0, **wrong}, "a training")
