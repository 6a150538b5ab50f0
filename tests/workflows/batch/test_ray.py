"""Batches on a real Ray of this machine whose actors are killed, and on clusters that lose a node, or their head."""

import json
import re
import subprocess
import sys
import time

import pytest

from evenreel import EditSettings, edit_file
from video.making import moving, write_clip

pytest.importorskip("ray", reason="needs Ray: pip install 'evenreel[ray]'")

LIMIT = 420
"""Seconds after which a batch counts as hung."""
BATCH = """
import json, os, signal, sys
from pathlib import Path
import psutil
from evenreel.workflows.batch import on_ray, run

killed, kills = set(), int(sys.argv[2])

def actors():
    here = [one for one in psutil.process_iter(["name", "cmdline"]) if one.info["cmdline"]]
    return [one.pid for one in here if one.info["cmdline"][0].startswith("ray::Actor.make")]

def watch(rows):
    for pid in actors():
        if len(killed) < kills and pid not in killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)

batch = run.read(Path(sys.argv[1]), executor="ray", workers=3)
outcomes = [(one.number, one.error) for one in on_ray.on_ray(batch.rows, batch.workers, watch)]
print(json.dumps([outcomes, len(killed)]))
"""


class Table:
    """Four edits, and what they are when made alone."""

    def __init__(self, folder, model):
        self.folder, self.path, self.model = folder, folder / "edits.jsonl", model
        self.clip = write_clip(folder / "in.mp4", moving(3, 64, 64))
        self.write(steps=3)

    def write(self, steps):
        model = self.model
        self.told = {
            "prompt": "a star",
            "model": str(model),
            "device": "cpu",
            "host": "frame",
            "steps": steps,
        }
        rows = [{"clip": "in.mp4", "out": f"{seed}.mp4", **self.told, "seed": seed} for seed in range(4)]
        self.path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    def made(self):
        return [seed for seed in range(4) if (self.folder / f"{seed}.mp4").exists()]

    def check(self, seeds=(0, 3)):
        for seed in seeds:
            settings = EditSettings(**self.told, seed=seed)
            alone = edit_file(self.clip, self.folder / "alone.mp4", settings).path
            assert alone.read_bytes() == (self.folder / f"{seed}.mp4").read_bytes()


@pytest.fixture
def table(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setenv("EVENREEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # as everything else, or they starve on a busy machine
    return Table(tmp_path, tiny_folder)


@pytest.fixture
def cluster(table, monkeypatch):
    """A cluster whose head makes nothing, and two nodes with a place each; `started` makes another."""
    from ray.cluster_utils import Cluster

    every = []

    def started():
        one = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        every.append(one)
        nodes = [one.add_node(num_cpus=1) for _ in range(2)]
        monkeypatch.setenv("RAY_ADDRESS", one.address)
        return one, nodes

    yield started
    for one in every:
        one.shutdown()


def begun(table):
    """The command line at work on a table."""
    command = [sys.executable, "-m", "evenreel", "batch", str(table.path), "--executor", "ray"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(what):
    deadline = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_lost_node_costs_its_rows_nothing_but_time(cluster, table):
    one, (_, node) = cluster()
    with begun(table) as process:
        until(table.made)  # both nodes have rows by now
        one.remove_node(node, allow_graceful=False)
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out + err
    assert table.made() == [0, 1, 2, 3]
    table.check(range(4))


@pytest.mark.slow
def test_a_lost_head_is_one_sentence_and_the_same_command_makes_the_rest(cluster, table):
    table.write(steps=300)  # so that there are rows left when the head goes
    one, _ = cluster()
    with begun(table) as process:
        until(table.made)
        one.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1, out + err
    (said,) = [line for line in err.splitlines() if line.startswith("evenreel: ")]
    assert re.fullmatch(
        r"evenreel: the Ray cluster at 127\.0\.0\.1:1 is gone, and [1-3] of 4 rows are not made; start it again, .*"
        r"go on\.",
        said.replace(one.address, "127.0.0.1:1"),
    )
    before = {seed: (table.folder / f"{seed}.mp4").stat().st_mtime_ns for seed in table.made()}
    cluster()
    with begun(table) as process:
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out + err
    assert all((table.folder / f"{seed}.mp4").stat().st_mtime_ns == when for seed, when in before.items())
    table.check(range(4))


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_one_sentence(table, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with begun(table) as process:
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    (said,) = [line for line in err.splitlines() if line.startswith("evenreel: ")]
    assert "no Ray cluster answers at RAY_ADDRESS 127.0.0.1:9; start one there, or unset it." in said


@pytest.mark.slow
@pytest.mark.parametrize("kills", [0, 2])
def test_rows_of_killed_actors_are_made_again_to_the_same_bytes(kills, table):
    run = subprocess.run(
        [sys.executable, "-c", BATCH, str(table.path), str(kills)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    outcomes, killed = json.loads(run.stdout.splitlines()[-1])
    assert killed == kills
    assert sorted(outcomes) == [[number, None] for number in range(1, 5)]  # each once, none failed
    table.check()
