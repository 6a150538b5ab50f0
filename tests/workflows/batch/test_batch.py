"""Tables of edits: read, checked, made wherever, and made again alone where they failed."""

import json
import os
import signal
import threading
import time

import psutil
import pytest

from evenreel.cli import main
from evenreel.errors import DataError, SettingsError
from evenreel.workflows.batch import run, table
from evenreel.workflows.batch.worker import Worker
from video.making import moving, write_clip


@pytest.fixture
def folder(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setenv("EVENREEL_CACHE", str(tmp_path / "cache"))
    for name in ("a", "b"):
        write_clip(tmp_path / f"{name}.mp4", moving(2, 64, 64))
    return tmp_path


@pytest.fixture
def common(tiny_folder):
    return {"model": str(tiny_folder), "device": "cpu", "steps": 1, "host": "frame"}


def jsonl(folder, rows):
    path = folder / "edits.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_csv_says_what_the_command_line_can(folder):
    path = folder / "edits.csv"
    path.write_text(
        "clip,prompt,--steps,host-option,frames,guidance_scale,out\n"
        'a.mp4,"a star, blue",7,pnp_attn=0.1; pnp_conv=0.2,0:2,,{clip}-{steps}-{prompt}.mp4\n'
        "b.mp4,12,,,,3.5,\n"
    )
    one, two = table.read(path, "{clip}-{row}.mkv")
    assert one.output == folder / "a-7-a star- blue.mp4"
    told = one.settings
    assert (told.prompt, told.steps, told.frames) == ("a star, blue", 7, (0, 2))
    assert told.host_options == {"pnp_attn": 0.1, "pnp_conv": 0.2}
    assert two.output == folder / "b-2.mkv"
    assert (two.settings.prompt, two.settings.steps, two.settings.guidance_scale) == ("12", None, 3.5)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"clip": "a.mp4", "prompt": "x", "stepps": 3}],
            "has a column 'stepps', and there are: clip, out, adapter",
        ),
        (
            [{"clip": "a.mp4", "prompt": "x", "out": "x.mp4"}] * 2,
            r"row 2: writes .*x.mp4, as row 1 does; name them",
        ),
        (
            [{"clip": "a.mp4", "prompt": "x", "steps": 0}, {"clip": "c.mp4", "prompt": "x"}],
            "row 1: .*row 2: .*c.mp4",
        ),
        ([{"prompt": "x"}], "row 1: names no clip; fill in the column 'clip'"),
        (
            [{"clip": "a.mp4", "prompt": "x", "out": "{nobody}.mp4"}],
            r"speaks of \{nobody\}, and there are: clip, out",
        ),
        ([{"clip": "a.mp4", "prompt": "x", "out": "{clip.mp4"}], "is not a name with {placeholders}"),
        (
            [{"clip": "a.mp4", "prompt": "x", "host_options": {"no": 1}, "host": "frame"}],
            "host frame has no setting no",
        ),
        ([{"clip": "a.mp4", "prompt": "0: x | 9: y"}], "changes at frame 9, and the clip has 2"),
        ([{"clip": "a.mp4", "prompt": "x", "out": "no/x.mp4"}], "is not a folder; make it"),
        ([], "has no rows"),
    ],
)
def test_a_table_that_cannot_be_is_refused_before_anything_runs(rows, said, folder):
    with pytest.raises(DataError, match=said):
        table.read(jsonl(folder, rows))


def test_files_that_are_no_tables_are_one_sentence(folder):
    (folder / "x.csv").write_text("clip,prompt\na.mp4,x,y\n")
    with pytest.raises(DataError, match="more or fewer cells than names"):
        table.read(folder / "x.csv")
    (folder / "x.csv").write_text("clip,prompt,host_options\na.mp4,x,pnp_attn=0.1\na.mp4,x,nonsense\n")
    with pytest.raises(DataError, match="row 2: host_options must be KEY=VALUE, got 'nonsense'"):
        table.read(folder / "x.csv")
    (folder / "x.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="line 1 is not a JSON object"):
        table.read(folder / "x.jsonl")
    (folder / "x.txt").write_text("x")
    with pytest.raises(DataError, match=r"is not a .csv or .jsonl"):
        table.read(folder / "x.txt")
    with pytest.raises(DataError, match="cannot be read"):
        table.read(folder / "nothing.csv")
    with pytest.raises(SettingsError, match="executor must be one of inline, processes, ray, got 'moon'"):
        run.read(folder / "nothing.csv", executor="moon")


def test_rows_that_failed_are_said_and_made_again_alone(folder, common, capsys, monkeypatch):
    rows = [{"clip": f"{clip}.mp4", "prompt": "a star", **common} for clip in "ab"]
    path = jsonl(folder, rows)
    make = Worker.make
    made = []

    def failing(self, row, progress):
        made.append(row.number)
        if row.number == 1 and len(made) == 1:
            row.source.rename(row.source.with_suffix(".gone"))
        return make(self, row, progress)

    monkeypatch.setattr(Worker, "make", failing)
    assert main(["batch", str(path)]) == 1
    said = capsys.readouterr()
    assert said.out == "1 made, 0 there already, 1 failed\n"
    assert "evenreel: row 1: " in said.err
    (folder / "a.gone").rename(folder / "a.mp4")
    before = (folder / "b-2.mp4").read_bytes()
    assert main(["batch", str(path), "-q"]) == 0
    assert made == [1, 2, 1]
    assert (folder / "a-1.mp4").is_file()
    assert (folder / "b-2.mp4").read_bytes() == before
    assert main(["batch", str(path)]) == 0
    assert capsys.readouterr().out == "0 made, 2 there already, 0 failed\n"
    (folder / "b-2.mp4").write_bytes(before[:-1])  # no longer what was made
    assert main(["batch", str(path), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["found"] for line in lines] == [True, False]
    assert (folder / "b-2.mp4").read_bytes() == before
    assert main(["batch", str(path), "--check"]) == 0


def killing(names, times):
    """Kill processes whose command line has one of `names`, descendants of this one, `times` times, a while apart."""
    killed = []

    def work():
        for _ in range(times):
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                time.sleep(0.3)
                for child in psutil.Process().children(recursive=True):
                    try:
                        line = " ".join([child.name(), *child.cmdline()])
                        if any(name in line for name in names) and child.cpu_times().user > 3:
                            os.kill(child.pid, signal.SIGKILL)
                            killed.append(child.pid)
                            break
                    except psutil.Error:
                        continue
                else:
                    continue
                break

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, killed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray leaves sockets open
@pytest.mark.parametrize(("executor", "names"), [("processes", ["spawn_main"]), ("ray", ["_Actor"])])
def test_workers_that_are_killed_cost_nothing_but_time(executor, names, folder, common):
    if executor == "ray":
        pytest.importorskip("ray", reason="needs evenreel[ray]")
    rows = [
        {"clip": f"{clip}.mp4", "prompt": f"a star {number}", **common, "steps": 12, "size": 128}
        for clip in "ab"
        for number in range(3)
    ]
    alone = list(run.read(jsonl(folder, rows), out="alone-{row}.mp4").run())
    assert [outcome.error for outcome in alone] == [None] * 6
    batch = run.read(jsonl(folder, rows), out="{row}.mp4", executor=executor, workers=2)
    thread, killed = killing(names, 2)
    outcomes = sorted(batch.run(), key=lambda outcome: outcome.number)
    thread.join()
    assert killed
    assert [outcome.error for outcome in outcomes] == [None] * 6
    for number in range(1, 7):
        assert (folder / f"{number}.mp4").read_bytes() == (folder / f"alone-{number}.mp4").read_bytes()
