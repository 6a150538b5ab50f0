"""Jobs are killed at every point between write, flush and rename, and at moments of chance.

Under a final name there is never a part of a file; the same command goes on to the same result as if nothing had
happened, and nothing is left over. A few kills by default; all of them, and more, with -m slow.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from evenreel.cli import main
from evenreel.training.states import StateFiles
from evenreel.video import load
from video.making import moving, write_clip
from zygote import Zygote

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
HOSTS = ("frame", "text2video_zero", "tokenflow", "vid2vid_zero", "vidtome")
QUICK = [
    "--warmup",
    "1",
    "--decay",
    "0",
    "--dtype",
    "float32",
    "--device",
    "cpu",
    "-q",
    "--checkpoint-seconds",
    "0",
]


@dataclass(frozen=True)
class Job:
    """What is killed."""

    argv: list[str]
    prepare: Callable[[Path], None]
    """Put into a folder what is there before."""
    results: Callable[[Path], dict[str, bytes]]
    """What must come out the same, by name."""
    whole: Callable[[Path, dict[str, bytes], dict[str, bytes]], None]
    """Given (folder, results of before, results of a job that was not killed), check what a killed one left."""


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def settled(path: Path) -> bytes:
    """A record without what differs from run to run."""
    values = json.loads(path.read_text())
    for name in ("made", "seconds", "peak_memory"):
        values.pop(name, None)
    return json.dumps(values, sort_keys=True).encode()


def edit_job(base: Path, name: str) -> Job:
    clip = write_clip(base / "in.mp4", moving(3, 64, 64), audio="aac")
    told = [
        "edit",
        str(clip),
        "--model",
        str(base / "model"),
        "--steps",
        "1",
        "--inversion",
        "ddim",
        "--motion",
        "off",
    ]
    told += ["--host", "frame", "--device", "cpu", "-q", "-o", name]

    def prepare(folder: Path) -> None:
        os.chdir(folder)
        assert main([*told, "--prompt", "before"]) == 0

    def results(folder: Path) -> dict[str, bytes]:
        found = {}
        for path in folder.iterdir():
            if path.name.startswith("."):
                continue
            if path.suffix == ".json":
                found[path.name] = settled(path)
            elif path.is_dir():
                found |= {f"{path.name}/{inner}": data for inner, data in files(path).items()}
            else:
                found[path.name] = path.read_bytes()
        return found

    def whole(folder: Path, before: dict[str, bytes], after: dict[str, bytes]) -> None:
        here = results(folder)
        clip = {
            key: data for key, data in here.items() if not key.endswith(".json") and "-earlier-" not in key
        }
        ends = [{k: d for k, d in each.items() if not k.endswith(".json")} for each in (before, after)]
        earlier = {key: data for key, data in here.items() if "-earlier-" in key}
        assert clip in ends or (not clip and len(earlier) == len(ends[0])), "a part of a clip"
        assert here[f"{name.partition('.')[0]}.json"] in [
            each[f"{name.partition('.')[0]}.json"] for each in (before, after)
        ]
        if clip:
            load(folder / name)

    return Job([*told, "--prompt", "after"], prepare, results, whole)


def data_job(base: Path) -> Job:
    del base
    told = [
        "data",
        "build",
        "--world",
        "3",
        "--size",
        "32",
        "--per-clip",
        "1",
        "--clips-per-shard",
        "1",
        "-j",
        "1",
        "-q",
    ]

    def results(folder: Path) -> dict[str, bytes]:
        return {key: data for key, data in files(folder / "data").items() if not key.startswith(".")}

    def whole(folder: Path, _: dict[str, bytes], after: dict[str, bytes]) -> None:
        if (folder / "data").exists():
            for key, data in results(folder).items():
                if key.endswith(".tar"):
                    assert data == after[key], "a part of a shard"
                else:
                    json.loads(data)

    return Job([*told, "-o", "data"], lambda folder: None, results, whole)


def training_job(base: Path) -> Job:
    if not (base / "shards").exists():
        world = [
            "data",
            "build",
            "--world",
            "2",
            "--size",
            "64",
            "--per-clip",
            "1",
            "--control",
            "depth",
            "--flow",
        ]
        assert main([*world, "-j", "1", "-q", "-o", str(base / "shards")]) == 0
    told = [
        "train",
        "adapter",
        str(base / "shards"),
        "--model",
        str(base / "model"),
        "--recipe",
        "noise",
        *QUICK,
    ]

    def results(folder: Path) -> dict[str, bytes]:
        state = StateFiles(folder / "run", "adapter").newest()
        assert state is not None
        digest = hashlib.sha256()
        for key, tensor in sorted(state.tensors.items()):
            digest.update(key.encode() + tensor.numpy().tobytes())
        return {
            "adapter": (folder / "run" / "adapter.safetensors").read_bytes(),
            "state": digest.hexdigest().encode(),
        }

    def whole(folder: Path, _: dict[str, bytes], after: dict[str, bytes]) -> None:
        if (folder / "run").exists():
            states = StateFiles(folder / "run", "adapter")
            assert all(StateFiles.read(path) for path in states.paths if path.exists()), "a part of a state"
            path = folder / "run" / "adapter.safetensors"
            assert not path.exists() or path.read_bytes() == after["adapter"]

    return Job([*told, "--steps", "3", "-o", "run"], lambda folder: None, results, whole)


def study_job(base: Path) -> Job:
    settings = "clips = 2\nseeds = [0]\nframes = 4\nsteps = 1\nstrips = 1\n"
    (base / "study.toml").write_text(settings + 'hosts = ["frame"]\nexperiments = ["controls"]\n')

    def lines(folder: Path) -> list[dict]:
        path = folder / "study" / "items.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def results(folder: Path) -> dict[str, bytes]:
        found = {line["key"]: json.dumps(line["figures"]).encode() for line in lines(folder)}
        pictures = files(folder / "study" / "frames")
        assert (folder / "study" / "report.html").read_text().rstrip().endswith("</html>")
        return found | {key: data for key, data in pictures.items() if not key.startswith(".")}

    def whole(folder: Path, _: dict[str, bytes], after: dict[str, bytes]) -> None:
        for line in lines(folder):
            assert json.dumps(line["figures"]).encode() == after[line["key"]]
        for path in (folder / "study" / "frames").glob("[!.]*"):
            assert path.read_bytes() == after[path.name], "a part of a picture"

    told = ["study", "run", str(base / "study.toml"), "--processes", "1", "-q", "-o", "study"]
    return Job(told, lambda folder: None, results, whole)


def hosted_job(base: Path, host: str) -> Job:
    """An edit whose kills fall into its inversion and its sampling, and that goes on from there."""
    job = edit_job(base, "out.mp4")
    told = [*job.argv[:-2], "--host", host, "--steps", "4", "--batch", "2", "--prompt", "after"]
    return Job(told, job.prepare, job.results, job.whole)


JOBS = {
    **{f"edit by {host}": partial(hosted_job, host=host) for host in HOSTS},
    "edit": lambda base: edit_job(base, "out.mp4"),
    "edit to a folder": lambda base: edit_job(base, "out"),
    "data": data_job,
    "training": training_job,
    "study": study_job,
}
FEW = {
    **dict.fromkeys((f"edit by {host}" for host in HOSTS), 0),
    "edit": 1,
    "edit to a folder": 1,
    "data": 2,
    "training": 0,
    "study": 0,
}
"""Points of the default run; trainings and studies are slow."""


@pytest.fixture(scope="module")
def base(tmp_path_factory, tiny_folder):
    """What jobs work on."""
    folder = tmp_path_factory.mktemp("kills")
    shutil.copytree(tiny_folder, folder / "model")
    return folder


class Tried:
    """A job, what it gives when nothing goes wrong, and how many points it has."""

    def __init__(self, zygote: Zygote, base: Path, name: str) -> None:
        self.zygote, self.name = zygote, name
        self.work = base / name.replace(" ", "-")
        self.work.mkdir()
        self.job = JOBS[name](base)
        self.start = self.work / "start"
        self.start.mkdir()
        here = Path.cwd()
        self.job.prepare(self.start)
        os.chdir(here)
        self.before = self.job.results(self.start) if any(self.start.iterdir()) else {}
        folder = self.fresh()
        begun = time.monotonic()
        assert zygote.run(self.job.argv, folder, kept=True) == 0, (self.work / "said.txt").read_text()
        self.seconds = time.monotonic() - begun
        self.points = int((self.work / "count.txt").read_text())
        self.after = self.job.results(folder)
        assert self.after != self.before

    def fresh(self) -> Path:
        folder = self.work / "run"
        shutil.rmtree(folder, ignore_errors=True)
        return shutil.copytree(self.start, folder)

    def kill(self, times: int = 1, **when: float) -> int:
        """Kill the job, once or over and over; look at what is there; let it go on; look again.

        Returns how many of the kills came before its end.
        """
        folder, struck = self.fresh(), 0
        for _ in range(times):
            status = self.zygote.run(self.job.argv, folder, kept=True, **when)
            assert status in (0, -signal.SIGKILL), (self.work / "said.txt").read_text()[-2000:]
            struck += status != 0
            self.job.whole(folder, self.before, self.after)
        status = self.zygote.run(self.job.argv, folder, kept=True)
        assert status == 0, (self.work / "said.txt").read_text()[-2000:]
        found = {key: data for key, data in self.job.results(folder).items() if "-earlier-" not in key}
        assert found == self.after
        litter = [path for path in folder.rglob(".evenreel-*") if path.exists()]
        assert litter == []
        return struck


@pytest.fixture(scope="module")
def tried(zygote, base):
    made: dict[str, Tried] = {}
    return lambda name: (
        made.setdefault(name, None) or made.__setitem__(name, Tried(zygote, base, name)) or made[name]
    )


@pytest.mark.parametrize("name", [name for name in JOBS if FEW[name]])
def test_some_kills(name, tried):
    one = tried(name)
    draw = random.Random(f"kills {name}")
    for point in sorted({1 + one.points // 2, one.points})[: FEW[name]]:
        one.kill(point=point)
    one.kill(after=draw.uniform(0, one.seconds))


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_a_kill_at_every_point(name, tried):
    one = tried(name)
    for point in range(1, one.points + 1):
        one.kill(point=point)


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_kills_by_chance(name, tried):
    one = tried(name)
    draw = random.Random(f"chance {name}")
    trials, struck = int(os.environ.get("EVENREEL_KILLS", "20")), 0
    for _ in range(trials):
        struck += one.kill(draw.randint(1, 3), after=draw.uniform(0, 1.1 * one.seconds))
    print(f"{name}: {trials} edits, {struck} kills before the end")
    assert struck >= trials  # else hardly anything was tried
