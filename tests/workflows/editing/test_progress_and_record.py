"""Progress, the stopwatch, and the record's plain values."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from evenreel.progress import tracked
from evenreel.workflows.editing.records import resource_use
from evenreel.workflows.editing.records.record import hash_of, plain
from evenreel.workflows.editing.records.resource_use import Stopwatch


def test_tracked_reports_each_item_after_its_use():
    told = []
    items = tracked([10, 20], lambda *report: told.append(report), "count")
    told.extend(items)
    assert told == [("count", 0, 2), 10, ("count", 1, 2), 20, ("count", 2, 2)]


def test_tracked_without_a_length():
    told = []
    assert list(tracked(iter("ab"), lambda *report: told.append(report), "count")) == ["a", "b"]
    assert told[0] == ("count", 0, None)


def test_stages_add_up_also_when_they_fail(monkeypatch):
    clock = iter([0.0, 1.0, 10.0, 12.0])
    monkeypatch.setattr(resource_use.time, "perf_counter", lambda: next(clock))
    stopwatch = Stopwatch(torch.device("cpu"))
    with stopwatch.stage("work"):
        pass
    with pytest.raises(ValueError, match="stop"), stopwatch.stage("work"):
        raise ValueError("stop")
    assert stopwatch.seconds == {"work": 3.0}


def test_a_stage_waits_for_one_inside_it(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 7.0])
    monkeypatch.setattr(resource_use.time, "perf_counter", lambda: next(clock))
    stopwatch = Stopwatch(torch.device("cpu"))
    with stopwatch.stage("outer"), stopwatch.stage("inner"):
        assert stopwatch.running == "inner"
    assert stopwatch.seconds == {"outer": 5.0, "inner": 2.0}
    assert stopwatch.running is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say")
def test_peak_memory_is_what_was_held():
    # A process of its own: in this one an earlier test may have held more. (Linux hands a peak on to children.)
    code = (
        "from evenreel.workflows.editing.records.resource_use import peak_process_bytes as peak\n"
        "held = b'x' * 2**29\nprint(peak())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 2**29


def test_a_cpu_has_no_device_memory():
    assert resource_use.peak_device_bytes(torch.device("cpu")) is None


def test_plain_values_are_json():
    value = {"rate": Fraction(24000, 1001), "path": Path("a"), "pair": (1, None), "dtype": torch.float16}
    assert json.loads(json.dumps(plain(value))) == {
        "rate": "24000/1001",
        "path": "a",
        "pair": [1, None],
        "dtype": "torch.float16",
    }


def test_the_hash_of_a_file_is_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"")
    assert hash_of([tmp_path / "a"]).startswith("ba7816bf8f01cfea")
    assert hash_of([tmp_path / "a", tmp_path / "b"]) != hash_of([tmp_path / "b", tmp_path / "a"])
