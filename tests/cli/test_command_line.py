"""The command line as a person meets it: exit statuses, and errors of one sentence."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from evenreel._version import __version__
from evenreel.cli import main
from evenreel.video import probe

PROGRAM = (sys.executable, "-c", "import sys; from evenreel.cli import main; sys.exit(main())")


@dataclass(frozen=True)
class Finished:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `evenreel ARGUMENTS` from an empty folder, within this process: starting one costs seconds of imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def start(*arguments: str) -> Finished:
        status = main(arguments)
        return Finished(status, *capsys.readouterr())

    return start


@pytest.fixture
def quick(tiny_folder) -> tuple[str, ...]:
    return ("--prompt", "a star", "--model", str(tiny_folder), "--steps", "1", "--device", "cpu")


def assert_one_sentence(done: Finished, status: int, words: str) -> None:
    errors = [line for line in done.stderr.splitlines() if not line.endswith("...")]
    assert done.returncode == status, done.stderr
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("evenreel: ")
    assert re.search(words, errors[0]), errors[0]
    assert done.stdout == ""


def test_help_names_every_command(run):
    done = run("--help")
    assert done.returncode == 0
    for command in (
        "edit",
        "evaluate",
        "metrics",
        "generate",
        "repeat",
        "demo",
        "hosts",
        "info",
        "doctor",
        "train",
    ):
        assert re.search(rf"^\W*{command}\b", done.stdout, re.MULTILINE)


def test_version(run):
    assert run("--version").stdout == f"evenreel {__version__}\n"


def test_no_command_shows_the_help(run):
    done = run()
    assert done.returncode == 0
    assert "Usage" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["edit"], "Missing argument .CLIP"),
        (["edit", "in.mp4"], "--prompt"),
        (["edit", "in.mp4", "--prompt", "x", "--no-such"], "--no-such"),
        (["edit", "in.mp4", "--prompt", "x", "--steps", "many"], "--steps"),
        (["edit", "in.mp4", "--prompt", "x", "--steps", "0"], "--steps must be from 1"),
        (["edit", "in.mp4", "--prompt", "x", "--frames", "4-8"], "--frames must be START:END"),
        (["edit", "in.mp4", "--prompt", "x", "--frames", "8:4"], "0 <= START < END"),
        (["edit", "in.mp4", "--prompt", "x", "--size", "big"], "--size must be"),
        (["edit", "in.mp4", "--prompt", "x", "--host-option", "pnp"], "--host-option must be KEY=VALUE"),
        (["edit", "in.mp4", "--prompt", ""], "--prompt is empty"),
        (["edit", "in.mp4", "--prompt", "x", "--seed", "-1"], "seed"),
        (["edit", "in.mp4", "--prompt", "x", "--guidance-scale", "nan"], "--guidance-scale"),
        (["edit", "in.mp4", "--prompt", "x", "--frames", "9" * 5000 + ":"], "--frames must be START:END"),
        (["edit", ".", "--prompt", "x"], "choose one with --out"),
        (["hosts", "no-such-host"], "there are: frame, .*vidtome"),
        (["repeat", "none.json"], "cannot be read"),
        (["generate", "-o", "out.mp4"], "--prompt"),
        (["generate", "--prompt", "x"], "--out"),
        (["generate", "--prompt", "x", "-o", "out.mp4", "--frames", "0"], "--frames must be from 1"),
        (["generate", "--prompt", "x", "-o", "out.mp4", "--fps", "0"], "fps must be from 0.01"),
        (
            ["generate", "--prompt", "x", "-o", "out.mp4", "--control", "FOLDER"],
            "name a clip with --control-clip",
        ),
        (["generate", "--prompt", "x", "-o", "out.mp4", "--host", "tokenflow"], "cannot work without one"),
        (["edit", "in.mp4", "--prompt", "x", "--control-kind", "smoke"], "--control-kind must be one of"),
        (["edit", "in.mp4", "--prompt", "x", "--control-clip", "a.mp4"], "name one with --control"),
        (["train", "mini", "--parts", "vae,nose"], "--parts must name"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(arguments, words, run):
    assert_one_sentence(run(*arguments), 2, words)


def test_a_missing_clip_is_status_1(run, quick):
    assert_one_sentence(run("edit", "nowhere.mp4", *quick), 1, "nowhere.mp4 cannot be read")


def test_a_missing_model_says_how_to_get_it(run, clip_with_sound):
    done = run("edit", str(clip_with_sound), "--prompt", "x", "--model", "owner/model", "-o", "out.mp4")
    assert_one_sentence(done, 1, "owner/model.*not on this machine.*fetch")


@pytest.mark.parametrize("name", [".", "/", "", "..", "x" * 300 + ".mp4"])
def test_an_output_that_is_no_name(name, run, quick, clip_with_sound):
    assert_one_sentence(run("edit", str(clip_with_sound), *quick, "-o", name), 1, "choose another --out")


def test_a_model_with_too_long_a_name(run, clip_with_sound):
    done = run("edit", str(clip_with_sound), "--prompt", "x", "--model", "m" * 300, "-o", "out.mp4")
    assert_one_sentence(done, 2, "too long a name")


def test_an_edit(run, quick, clip_with_sound, tmp_path):
    done = run(
        "edit",
        str(clip_with_sound),
        *quick,
        "--frames",
        "1:4",
        "--host-option",
        "chunk_size=2",
        "-o",
        "out.mp4",
    )
    assert done.returncode == 0, done.stderr
    assert probe(tmp_path / "out.mp4").frame_count == 3
    assert probe(tmp_path / "out.mp4").has_audio
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["settings"]["host_options"] == {"chunk_size": 2}
    assert "out.mp4: 3 frames" in done.stdout
    for stage in ("read and encode", "invert", "edit", "decode and write"):
        assert re.search(rf"^{stage} done in [\d.]+ s$", done.stderr, re.MULTILINE)


def test_quiet_is_quiet_and_repeat_repeats(run, quick, clip_with_sound, tmp_path):
    done = run("edit", str(clip_with_sound), *quick, "--quiet", "-o", "out.mp4")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = run("repeat", "out.json", "-q", "-o", "again.mp4")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()


class TestGenerate:
    """`evenreel generate`, from the prompt to the file."""

    def test_a_clip_from_text(self, run, quick, tmp_path):
        done = run("generate", *quick, "--frames", "3", "--fps", "12", "--size", "96x64", "-o", "out.mp4")
        assert done.returncode == 0, done.stderr
        info = probe(tmp_path / "out.mp4")
        assert (info.frame_count, info.average_rate, info.width, info.height) == (3, 12, 96, 64)
        assert "out.mp4: 3 frames" in done.stdout
        for stage in ("generate", "decode and write"):
            assert re.search(rf"^{stage} done in [\d.]+ s$", done.stderr, re.MULTILINE)

    def test_again(self, run, quick, tmp_path):
        first = ("generate", *quick, "--frames", "2", "-q", "-o", "out.mp4")
        assert run(*first).returncode == 0
        before = (tmp_path / "out.mp4").read_bytes()
        assert run("repeat", "out.json", "-q", "-o", "again.mp4").returncode == 0
        assert (tmp_path / "again.mp4").read_bytes() == before
        assert run(*first, "--seed", "1").returncode == 0
        assert (tmp_path / "out.mp4").read_bytes() != before

    def test_under_a_control(self, run, quick, clip_with_sound, tmp_path):
        from tiny import save_tiny_control

        control = ("--control", str(save_tiny_control(tmp_path / "control")), "--control-kind", "none")
        clip = ("--control-clip", str(clip_with_sound), "--control-scale", "0.5")
        done = run("generate", *quick, *control, *clip, "--frames", "2", "-o", "out.mp4")
        assert done.returncode == 0, done.stderr
        assert (probe(tmp_path / "out.mp4").width, probe(tmp_path / "out.mp4").height) == (96, 64)
        done = run("edit", str(clip_with_sound), *quick, *control, "--frames", "0:2", "-o", "edit.mp4")
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "edit.json").read_text())["settings"]["control_kind"] == "as-is"
        kinds = ("--control", control[1], "--control-kind", "canny", "--control-scale", "0.5")
        done = run(
            "edit", str(clip_with_sound), *quick, *control, *kinds, "--frames", "0:2", "-o", "both.mp4"
        )
        assert done.returncode == 0, done.stderr
        told = json.loads((tmp_path / "both.json").read_text())["settings"]
        assert (told["control_kind"], told["control_scale"]) == (["as-is", "canny"], [0.5, 0.5])
        assert told["control_clip"] == [None, None]


@pytest.mark.parametrize(
    "name", ["-dash.mp4", "--prompt.mp4", "snow ☃ 雪.mp4", "new\nline.mp4", "[red]bold.mp4", "a%d.mp4"]
)
def test_hostile_names_survive(name, run, quick, clip_with_sound, tmp_path):
    shutil.copy(clip_with_sound, tmp_path / name)
    done = run("edit", *quick, "--frames", "0:1", "--", name)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / name.replace(".mp4", "-edited.mp4")).is_file()


class TestProcess:
    """What only a process of its own can show."""

    def test_exit_statuses_reach_the_shell(self, tmp_path):
        for arguments, status in (["--version"], 0), (["info", "nowhere.mp4"], 1), (["frobnicate"], 2):
            done = subprocess.run(
                [*PROGRAM, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert done.returncode == status
            assert "Traceback" not in done.stderr

    def test_a_name_that_is_no_utf8(self, clip_with_sound, tmp_path):
        name = os.fsdecode(b"caf\xe9.mp4")
        shutil.copy(clip_with_sound, tmp_path / name)
        done = subprocess.run([*PROGRAM, "info", name], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_with_130_and_leaves_nothing(
        self, number, quick, clip_with_sound, tmp_path, zygote
    ):
        work, said = tmp_path / "work", tmp_path / "said.txt"
        work.mkdir()
        child = zygote.begin(["edit", clip_with_sound, *quick, "--steps", "1000", "-o", "out.mp4"], work)
        deadline = time.monotonic() + 120
        while not said.exists() or "invert" not in said.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(child, number)
        assert zygote.end() == 130
        assert said.read_text().endswith(
            "evenreel: interrupted; the same command, or `evenreel jobs resume`, goes on from here.\n"
        )
        assert list(work.iterdir()) == []

    @pytest.mark.skipif(os.name == "nt", reason="counts seconds of the processor")
    def test_help_is_quick(self):
        import resource

        def used() -> float:
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            return usage.ru_utime + usage.ru_stime

        costs = []
        for _ in range(3):
            before = used()
            subprocess.run(
                [Path(sys.executable).with_name("evenreel"), "--help"], capture_output=True, check=True
            )
            costs.append(used() - before)
        assert min(costs) < 0.7


class TestLooking:
    def test_info(self, run, clip_with_sound):
        done = run("info", str(clip_with_sound))
        assert "96 x 64" in done.stdout
        assert "aac" in done.stdout

    def test_info_as_json(self, run, clip_with_sound):
        found = json.loads(run("info", "--json", str(clip_with_sound)).stdout)
        assert (found["width"], found["height"], found["average_rate"]) == (96, 64, "25")

    def test_hosts(self, run):
        done = run("hosts")
        assert re.search(r"^frame +", done.stdout, re.MULTILINE)
        assert re.search(r"^vidtome +", done.stdout, re.MULTILINE)

    def test_every_setting_of_every_host_is_explained(self, run):
        from evenreel.workflows.inspect.descriptions import describe_host, host_summaries

        for name, summary in host_summaries().items():
            assert summary
            settings = describe_host(name).settings
            assert all(setting.meaning for setting in settings)
            shown = run("hosts", name).stdout
            assert all(setting.name in shown for setting in settings)

    def test_every_setting_of_every_inversion_is_explained(self, run):
        from evenreel import registry
        from evenreel.workflows.inspect.descriptions import describe_inversion

        listed = run("inversions").stdout
        for name in registry.names(registry.INVERSIONS):
            assert re.search(rf"^{name} +\w", listed, re.MULTILINE)
            settings = describe_inversion(name).settings
            assert all(setting.meaning for setting in settings)
            shown = run("inversions", name).stdout
            assert all(setting.name in shown for setting in settings)
        assert_one_sentence(run("inversions", "magic"), 2, "there are: bilateral, ddim, ddpm, fixed")

    def test_doctor_as_json(self, run):
        done = run("doctor", "--json")
        findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
        assert findings["libx264"]["state"] == "ok"
        assert findings["evenreel"]["found"] == __version__
        missing = [finding for finding in findings.values() if finding["state"] == "missing"]
        assert done.returncode == (1 if missing else 0)
        assert all(finding["advice"] for finding in missing)


class TestUnexpected:
    """A fault of our own is one line too; the details are there for who asks for them."""

    @pytest.fixture(autouse=True)
    def broken(self, monkeypatch):
        monkeypatch.setattr("evenreel.video.probe", lambda *_: 1 / 0)

    def test_one_line(self, run):
        assert_one_sentence(run("info", "clip.mp4"), 1, "unexpected ZeroDivisionError.*EVENREEL_DEBUG=1")

    def test_a_traceback_for_who_asks(self, run, monkeypatch):
        monkeypatch.setenv("EVENREEL_DEBUG", "1")
        with pytest.raises(ZeroDivisionError):
            run("info", "clip.mp4")
