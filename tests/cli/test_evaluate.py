"""`evenreel evaluate` and `evenreel metrics` as a person meets them."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from evenreel.cli import main
from evenreel.metrics.base import registered
from evenreel.video import VideoWriter, from_model
from evenreel.world import HELD_OUT, caption, random_scene, render


@pytest.fixture(scope="module")
def scenes():
    scene = random_scene(HELD_OUT + 3, objects=1)
    return scene, scene.edited(colour="blue" if scene.main.colour != "blue" else "red")


@pytest.fixture(scope="module")
def clips(scenes, tmp_path_factory):
    """A source, its true edit, and a mask of the object."""
    folder = tmp_path_factory.mktemp("evaluate")
    for name, scene in zip(("source", "edit"), scenes, strict=True):
        clip = render(scene, range(4), 128)
        with VideoWriter(folder / f"{name}.mp4", 128, 128, rate=8) as writer:
            writer.write(from_model(clip.frames, (128, 128)))
    (folder / "masks").mkdir()
    for index, mask in enumerate(clip.masks.amax(1)):
        picture = (255 * (mask > 0)).byte().numpy().astype(np.uint8)
        Image.fromarray(picture).save(folder / "masks" / f"{index}.png")
    return folder


@pytest.fixture
def run(clips, monkeypatch, capsys):
    """Run `evenreel ARGUMENTS` beside the clips."""
    monkeypatch.chdir(clips)
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("EVENREEL_CLIP", "EVENREEL_LPIPS", "EVENREEL_DINO"):
        monkeypatch.delenv(name, raising=False)

    def start(*arguments):
        status = main(arguments)
        said = capsys.readouterr()
        return status, said.out, said.err

    return start


@pytest.fixture
def prompts(scenes):
    return ("--source-prompt", caption(scenes[0]), "--prompt", caption(scenes[1]))


def test_a_table(run, prompts, scenes):
    status, out, err = run(
        "evaluate",
        "source.mp4",
        "edit.mp4",
        *prompts,
        "--mask",
        "masks",
        "--truth",
        "edit.mp4",
        "--clip",
        "mini",
    )
    assert status == 0, err
    assert "edit.mp4 against source.mp4: 4 frames at 128 x 128" in out
    assert f'"{caption(scenes[0])}" -> "{caption(scenes[1])}"' in out
    assert re.search(r"^background_psnr +[34]\d\.\d+ dB +↑", out, re.MULTILINE)
    assert re.search(r"^asked +100 % +↑ +colour", out, re.MULTILINE)
    assert re.search(r"^foreground_truth_psnr, .*truth_psnr: the frames are identical", out, re.MULTILINE)
    assert re.search(
        r"^background_lpips, lpips_consecutive, lpips_source: no LPIPS weights", out, re.MULTILINE
    )
    assert "- clip: mini\n" in out
    assert "measure done" in err
    for name in registered():
        assert re.search(rf"\b{name}\b", out), name


def test_json(run, prompts):
    status, out, _ = run("evaluate", "source.mp4", "edit.mp4", *prompts, "--json", "-q", "--metric", "source_psnr",
                         "--metric", "lpips_source", "--metric", "source_psnr")  # fmt: skip
    assert status == 0
    found = json.loads(out)
    assert list(found["metrics"]) == ["source_psnr", "lpips_source"]
    psnr, lpips = found["metrics"].values()
    assert psnr["value"] > 10
    assert (psnr["unit"], psnr["better"]) == ("dB", "higher")
    assert lpips["value"] is None
    assert "no LPIPS weights" in lpips["unavailable"]
    assert found["frames"] == 4
    assert found["versions"]["evenreel"]


def test_a_file(run, tmp_path):
    target = tmp_path / "figures.json"
    for _ in range(2):  # an earlier evaluation is replaced
        status, out, _ = run(
            "evaluate", "source.mp4", "edit.mp4", "--metric", "source_ssim", "-o", str(target)
        )
        assert status == 0
        assert "source_ssim" in out
        assert json.loads(target.read_text())["metrics"]["source_ssim"]["value"] > 0.5
    (tmp_path / "notes.json").write_text('{"a": 1}')
    status, out, err = run("evaluate", "source.mp4", "edit.mp4", "-o", str(tmp_path / "notes.json"))
    assert (status, out) == (1, "")
    assert "is not an evaluation; choose another --out" in err


def test_quiet(run):
    assert run("evaluate", "source.mp4", "edit.mp4", "--metric", "source_ssim", "-q") == (0, "", "")


def test_folders(run, clips, tmp_path, prompts):
    for name, clip in (("s", "source.mp4"), ("e", "edit.mp4")):
        (tmp_path / name).mkdir()
        for copy in ("one.mp4", "two.mp4", f"alone-{name}.mp4"):
            (tmp_path / name / copy).write_bytes((clips / clip).read_bytes())
    arguments = ["evaluate", str(tmp_path / "s"), str(tmp_path / "e"), "--metric", "source_ssim"]
    status, out, _ = run(*arguments, "--metric", "truth_ssim")
    assert status == 0
    assert "2 of 2 pairs measured" in out
    assert re.search(r"^source_ssim +0\.\d+ +↑ +\[0\.\d+, 0\.\d+\] +0\.\d+ +2$", out, re.MULTILINE)
    assert "unavailable for every pair: truth_ssim" in out
    assert "- not paired: alone-s.mp4 has no edit" in out
    (tmp_path / "e" / "two.mp4").write_bytes(b"")
    status, out, _ = run(*arguments)
    assert status == 1
    assert "1 of 2 pairs measured" in out
    assert "- failed: " in out
    assert "two.mp4 is empty" in out
    assert re.search(r"^source_ssim +0\.\d+ +↑ +one source only +0\.\d+ +1$", out, re.MULTILINE)
    _, out, _ = run(*arguments[:3], "--clip", "mini", "--metric", "clip_f", "--metric", "warp_error")
    assert "- clip: mini" in out
    assert "- flow: estimated by dense inverse search" in out


def test_a_list_of_pairs(run, tmp_path, clips):
    lines = ["source,edit,mask", f"{clips}/source.mp4,{clips}/edit.mp4,{clips}/masks"]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    status, out, _ = run(
        "evaluate", "--pairs", str(tmp_path / "pairs.csv"), "--json", "--metric", "background_psnr"
    )
    assert status == 0
    found = json.loads(out)
    assert found["means"]["background_psnr"]["pairs"] == 1
    assert found["pairs"][0]["mask"] == f"{clips}/masks"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "give SOURCE and EDIT, or a list with --pairs"),
        (["source.mp4"], 2, "give SOURCE and EDIT"),
        (["--pairs", "p.csv", "--mask", "m"], 2, "give nothing beside it"),
        (["source.mp4", "edit.mp4", "--pairs", "p.csv"], 2, "give nothing beside it"),
        (["--pairs", "nowhere.csv"], 2, "nowhere.csv cannot be read"),
        (["source.mp4", "edit.mp4", "--metric", "psnr"], 2, "there is no metric 'psnr'; there are: asked"),
        (["source.mp4", "edit.mp4", "--frames", "3"], 2, "--frames must be START:END"),
        (["source.mp4", "edit.mp4", "--frames", "0:2"], 1, "has 2 frames to compare and the edit"),
        (["source.mp4", "edit.mp4", "--clip", "nowhere"], 1, "nowhere is not a folder"),
        (["source.mp4", "edit.mp4", "--device", "abacus"], 2, "device"),
        (["source.mp4", "edit.mp4", "--flow", "masks"], 1, "holds no flow"),
        (["nowhere.mp4", "edit.mp4"], 1, "nowhere.mp4 cannot be read"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments, status, words, run):
    found, out, err = run("evaluate", *arguments, *(["--clip", "mini"] if "--device" in arguments else []))
    errors = [line for line in err.splitlines() if not line.endswith("...")]
    assert (found, out) == (status, ""), err
    assert len(errors) == 1
    assert words in errors[0]


class TestMetrics:
    def test_the_list_has_all(self, run):
        status, out, _ = run("metrics")
        assert status == 0
        for name in registered():
            assert re.search(rf"^{name} (↑|↓|→ 1)", out, re.MULTILINE), name
        assert "- no LPIPS weights were given" in out

    def test_one(self, run):
        status, out, _ = run("metrics", "background_lpips")
        assert status == 0
        assert "over background pixels only" in out
        assert "perceptual; lower is better\n" in out
        assert "needs: --lpips, --mask\n" in out
        assert "here: no LPIPS weights were given" in out

    def test_json(self, run, monkeypatch):
        found = {item["name"]: item for item in json.loads(run("metrics", "--json")[1])}
        assert set(found) == set(registered())
        assert not found["lpips_source"]["available"]
        assert found["source_ssim"]["available"]
        monkeypatch.setenv("EVENREEL_LPIPS", "lpips.safetensors")
        assert json.loads(run("metrics", "lpips_source", "--json")[1])["available"]

    def test_an_unknown_one(self, run):
        status, out, err = run("metrics", "fid")
        assert (status, out) == (2, "")
        assert "there is no metric 'fid'" in err


def test_an_environment_variable_stands_for_an_option(run, monkeypatch, prompts):
    monkeypatch.setenv("EVENREEL_CLIP", "mini")
    _, out, _ = run("evaluate", "source.mp4", "edit.mp4", *prompts, "--json", "-q", "--metric", "clip_t")
    assert json.loads(out)["metrics"]["clip_t"]["value"] > 0
