"""Batches on a real Ray of this machine whose actors are killed."""

import json
import subprocess
import sys
from pathlib import Path

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
from evenreel.workflows.batch import executors, run

killed, kills = set(), int(sys.argv[2])

def actors():
    here = [one for one in psutil.process_iter(["name", "cmdline"]) if one.info["cmdline"]]
    return [one.pid for one in here if one.info["cmdline"][0].startswith("ray::_Actor.make")]

def watch(rows):
    for pid in actors():
        if len(killed) < kills and pid not in killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)

batch = run.read(Path(sys.argv[1]), executor="ray", workers=3)
outcomes = [(one.number, one.error) for one in executors.on_ray(batch.rows, batch.workers, watch)]
print(json.dumps([outcomes, len(killed)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kills", [0, 2])
def test_rows_of_killed_actors_are_made_again_to_the_same_bytes(kills, tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setenv("EVENREEL_CACHE", str(tmp_path / "cache"))
    clip = write_clip(tmp_path / "in.mp4", moving(3, 64, 64))
    told = {"prompt": "a star", "model": str(tiny_folder), "device": "cpu", "host": "frame", "steps": 3}
    rows = [{"clip": str(clip), "out": f"{seed}.mp4", **told, "seed": seed} for seed in range(4)]
    table = tmp_path / "edits.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-c", BATCH, str(table), str(kills)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    outcomes, killed = json.loads(run.stdout.splitlines()[-1])
    assert killed == kills
    assert sorted(outcomes) == [[number, None] for number in range(1, 5)]  # each once, none failed
    for seed in (0, 3):
        alone = edit_file(clip, tmp_path / f"alone-{seed}.mp4", EditSettings(**told, seed=seed)).path
        assert alone.read_bytes() == Path(tmp_path / f"{seed}.mp4").read_bytes()
