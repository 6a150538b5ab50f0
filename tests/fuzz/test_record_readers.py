"""Mutated records, states and logs of trainings, and what a study keeps: each is read, or is one sentence."""

import json
import random
from types import SimpleNamespace

import pytest
import torch

from evenreel.errors import EvenreelError, OutputError, SettingsError
from evenreel.settings import EditSettings
from evenreel.study import item_log, study_record
from evenreel.study.experiments.catalogue import experiments
from evenreel.study.rating.ratings import QUESTIONS, Pair, Ratings, pairs
from evenreel.study.report.formatting import FIGURES
from evenreel.study.report.report import write_report
from evenreel.study.run import actions, runner
from evenreel.study.settings import StudySettings, as_json, read_file
from evenreel.training.data.shards import ShardedData
from evenreel.training.log import TrainingLog
from evenreel.training.states import StateFiles, is_done, recorded_step
from evenreel.workflows.editing import repeat
from evenreel.workflows.editing.edit import edit_file
from evenreel.workflows.editing.records.record import FileResult
from evenreel.workflows.evaluation.json_output import check_place
from fuzz.mutation import (
    with_bytes,
    with_bytes_anywhere,
    with_header,
    with_json,
    with_json_line,
    with_packed_json,
    with_text,
)
from fuzz.trying import Reader, hunt
from tiny import save_tiny_control
from video.making import moving, write_clip

SETTINGS = StudySettings(
    clips=2,
    seeds=(0,),
    frames=4,
    steps=2,
    hosts=("frame", "vidtome"),
    experiments=("hosts", "similarity", "raters"),
)
PRINTS = {"model": "abc"}
TOML = """clips = 3
hosts = ["frame"]
adapter = "a.safetensors"
seeds = [0, 1]
[tokens]
"8 shared" = "t/8.safetensors"
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A small study, as a run would leave it."""
    folder = tmp_path_factory.mktemp("study")
    record = {"settings": as_json(SETTINGS), "fingerprints": PRINTS}
    study_record.write_record(folder, record | dict.fromkeys(("evenreel", "torch", "machine", "begun"), "-"))
    rng = random.Random(0)
    with item_log.Log(folder / "items.jsonl") as log:
        for planned in runner.plan(SETTINGS, experiments(SETTINGS), PRINTS):
            line = {"key": planned.key, "seconds": 1.0, "figures": {name: rng.random() for name in FIGURES}}
            if planned.picture:
                line["picture"] = actions.save_picture(
                    torch.rand(2, 3, 8, 8), folder / "frames" / f"{planned.key}.jpg"
                )
            if planned.item.condition.kind == "edit":
                line["series"] = {"timestep": [501.0, 1.0], "similarity": [rng.random(), rng.random()]}
                line["maps"], line["prompt"] = {"frame 1": f"{planned.key}.jpg"}, "a star"
            log.append(line)
    ratings = Ratings(folder / "ratings.sqlite")
    for name in "abc":
        pair = Pair(name, "frame", "vidtome", "a.jpg", "b.jpg", "a star")
        ratings.add("ann", pair, dict.fromkeys(QUESTIONS, "left"), 1.0)
    return folder


def reported(path):
    write_report(path.parent)
    known = item_log.read(path.parent / "items.jsonl")
    record = study_record.read_record(path.parent)
    pairs(study_record.settings_of(record), known, record["fingerprints"], "ann")


def begun(path):
    with item_log.Log(path):
        item_log.read(path)


@pytest.mark.parametrize("kind", ["study.json", "items.jsonl", "ratings.sqlite", "items to go on"])
def test_mutated_studies_are_read_or_one_sentence(kind, study, seconds, tmp_path):
    path, read, mutations = {
        "study.json": (study / "study.json", reported, (with_json, with_json, with_text, with_bytes)),
        "items.jsonl": (
            study / "items.jsonl",
            reported,
            (with_json_line, with_json_line, with_bytes_anywhere),
        ),
        "ratings.sqlite": (study / "ratings.sqlite", reported, (with_bytes, with_bytes_anywhere)),
        "items to go on": (study / "items.jsonl", begun, (with_json_line, with_bytes_anywhere)),
    }[kind]
    hunt(kind, Reader(path, read, mutations, (SettingsError, OutputError)), seconds, tmp_path)


def test_mutated_study_settings(seconds, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(TOML)
    hunt("study.toml", Reader(path, read_file, (with_text, with_bytes), SettingsError), seconds, tmp_path)


@pytest.fixture
def edited(tmp_path, tiny_folder, monkeypatch):
    """The record of an edit that need not be run again."""
    clip = write_clip(tmp_path / "in.mp4", moving(2, 64, 64))
    control = save_tiny_control(tmp_path / "control")
    told = {"prompt": "a star", "steps": 1, "inversion": "ddim", "host": "frame", "control": str(control)}
    settings = EditSettings.from_json({**told, "model": str(tiny_folder), "device": "cpu", "motion": "off"})
    record = edit_file(clip, tmp_path / "out.mp4", settings).record_path
    for name in ("edit_file", "generate_file"):
        monkeypatch.setattr(repeat, name, lambda *_, **__: FileResult(record, record, {}))
    return record


def test_mutated_records(edited, seconds, tmp_path):
    def read(path):
        try:
            check_place(path)
        except OutputError:
            repeat.repeat_edit(path)

    hunt("record", Reader(edited, read, (with_json, with_json, with_json, with_bytes)), seconds, tmp_path)


def training(folder):
    """A training's state, its settings and its log."""
    files = StateFiles(folder, "adapter")
    for step in (1, 2):
        files.write({"weight": torch.arange(6.0).view(2, 3)}, {"step": step, "seconds": 1.0, "length": 4})
    log = TrainingLog(folder / "adapter.log.jsonl")
    log.begin(0, {"device": "cpu"})
    for step in (1, 2):
        log.write(step, 0.5, {"loss": 1.0, "temporal": 0.5})
    return files


def test_mutated_states(seconds, tmp_path):
    files = training(tmp_path)

    def read(path):
        files.paths = (path,)
        found = files.newest()
        recorded_step(tmp_path, "adapter")
        is_done(tmp_path, "adapter")
        return found

    reader = Reader(
        files.paths[1],
        read,
        (with_header, with_packed_json, with_bytes, with_bytes_anywhere),
        OutputError,
        same=lambda state: (repr(state.record), {name: t.tolist() for name, t in state.tensors.items()}),
    )
    hunt("state", reader, seconds, tmp_path)


def test_mutated_logs(seconds, tmp_path):
    training(tmp_path)
    whole = (tmp_path / "adapter.log.jsonl").read_bytes()
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join(whole.split(b"\n")[1:]))

    def read(path):
        (tmp_path / "again.jsonl").write_bytes(path.read_bytes())
        TrainingLog(tmp_path / "again.jsonl").begin(1, {})
        actions.logged_losses(path)

    hunt("training log", Reader(path, read, (with_json_line, with_text), EvenreelError), seconds, tmp_path)


def test_mutated_settings_of_a_training(seconds, tmp_path, monkeypatch):
    from dataclasses import dataclass, field

    from evenreel.training.loop_settings import LoopSettings
    from evenreel.workflows.training import going_on

    @dataclass
    class Told:
        loop: LoopSettings = field(default_factory=lambda: LoopSettings(steps=400))
        rank: int = 4

    shards = ShardedData.__new__(ShardedData)
    shards.manifest = SimpleNamespace(shards=())
    training(tmp_path)
    path = tmp_path / "settings.json"

    def read(path):
        going_on.check_same(tmp_path, "adapter", Told(), shards, harmless=(), write=False)

    monkeypatch.setattr(going_on, "recorded_step", lambda *_: 0)
    going_on.check_same(tmp_path, "adapter", Told(), shards, harmless=(), write=True)
    monkeypatch.undo()
    assert json.loads(path.read_text())["rank"] == 4
    hunt("settings.json", Reader(path, read, (with_json, with_bytes), SettingsError), seconds, tmp_path)
