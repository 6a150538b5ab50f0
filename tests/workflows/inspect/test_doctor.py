"""The doctor finds what is missing, and says how to get it."""

import json
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from evenreel import backbones, installed, registry
from evenreel.cli import main
from evenreel.errors import PluginError, WeightsError
from evenreel.installed import WEIGHTS
from evenreel.metrics.base import registered
from evenreel.ops import number_types
from evenreel.video import codecs
from evenreel.workflows.inspect import metric_list
from evenreel.workflows.inspect.doctor import examine


def found(name: str):
    return next(finding for finding in examine() if finding.name == name)


def test_names_are_unique():
    names = [finding.name for finding in examine()]
    assert len(names) == len(set(names))


def test_whatever_is_wrong_comes_with_advice():
    assert all(finding.advice for finding in examine() if finding.state == "missing")


@pytest.fixture
def versions(monkeypatch):
    """What is installed, as a table of a test has it; everything else as it is."""
    there = {}
    real = installed.version
    monkeypatch.setattr(installed, "version", lambda name: there[name] if name in there else real(name))
    return there


def test_every_declared_library_is_looked_at():
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    declared = tomllib.loads(text)["project"]["dependencies"]
    names = {finding.name for finding in examine()}
    assert {line.partition(">")[0] for line in declared} <= names


def test_a_library_that_is_not_installed(versions):
    versions["peft"] = None
    assert found("peft").state == "missing"
    assert found("peft").advice.startswith("pip install 'peft>=")


def test_a_library_that_is_too_old(versions):
    versions["diffusers"] = "0.35.2"
    assert (found("diffusers").state, found("diffusers").found) == ("missing", "0.35.2, and >=0.40 is needed")
    versions["diffusers"] = "0.41.0.dev0"
    assert found("diffusers").state == "ok"


def test_an_extra_that_is_too_old(versions):
    versions["opencv-python-headless"] = "4.9.0.80"
    assert "4.9.0.80 where >=4.10.0.84 is needed" in found("extra metrics").found


def test_installed_metadata_say_the_same_as_the_checkout(monkeypatch):
    """As from a wheel, where there is no pyproject.toml."""
    lines = ["torch>=2.9", "psutil>=6; python_version > '3'", "uvicorn>=0.34; extra == 'web'"]
    monkeypatch.setattr(installed, "project", lambda: None)
    monkeypatch.setattr(installed.metadata, "requires", lambda name: lines)
    assert [one.name for one in installed.libraries()] == ["torch", "psutil"]
    assert [one.name for one in installed.libraries("web")] == ["uvicorn"]


class TestVersionsAreSuspectedFirst:
    """Whatever fails, a library of a wrong version is the first thing to mend."""

    def test_damaged_weights(self, versions, tiny_folder, tmp_path):
        shutil.copytree(tiny_folder, tmp_path / "model")
        config = tmp_path / "model/unet/config.json"
        values = json.loads(config.read_text(encoding="utf-8")) | {"block_out_channels": [32, 32, 64]}
        config.write_text(json.dumps(values), encoding="utf-8")
        for diffusers, wanted in (
            (None, "but first mend the libraries: diffusers is not"),
            ("1.0", "^((?!mend).)*$"),
        ):
            versions["diffusers"] = diffusers
            with pytest.raises(WeightsError, match=wanted):
                _ = backbones.load_backbone(str(tmp_path / "model"), device="cpu").unet

    def test_a_fault_of_evenreel(self, versions, monkeypatch, capsys):
        monkeypatch.setattr("evenreel.cli.app.app", lambda *_, **__: 1 / 0)
        main(["info"])
        assert "this is a fault of evenreel" in capsys.readouterr().err
        versions["transformers"] = "4.50.0"
        main(["info"])
        said = capsys.readouterr().err
        assert (
            "transformers 4.50.0 is installed and >=5.6 is needed (pip install 'transformers>=5.6')" in said
        )
        assert "fault of evenreel" not in said

    def test_a_fault_of_a_plug_in(self, versions, monkeypatch, capsys):
        source = "def load(*_, **__):\n    return {}['nothing']\n"
        theirs = {"__name__": "strangers.model"}
        exec(source, theirs)  # noqa: S102 - a module of another package
        entry = EntryPoint("strange", "strangers.model:load", registry.BACKBONES)
        monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == entry.group else [])
        monkeypatch.setattr("evenreel.cli.app.app", theirs["load"])
        assert main(["info"]) == 1
        assert "this is a fault of the plug-in strangers: set EVENREEL_DEBUG=1" in capsys.readouterr().err


def test_an_encoder_that_is_not_there(monkeypatch):
    monkeypatch.setattr(codecs, "has_encoder", lambda name: name == "aac")
    assert (found("libx264").state, found("aac").state, found("libopus").state) == ("missing", "ok", "note")


def test_damaged_weights(monkeypatch):
    def damaged(*_, **__):
        raise WeightsError("the file differs from its checksum.")

    monkeypatch.setattr(backbones, "load_backbone", damaged)
    assert found("model mini").state == "missing"
    assert "checksum" in found("model mini").found


def test_number_types_are_measured(monkeypatch):
    rates = {torch.float32: 104.2, torch.bfloat16: 224.0, torch.float16: 3.21}
    monkeypatch.setattr(number_types, "_measured", lambda dtype, device: rates[dtype])
    figures = "float32 104 GFLOP/s, float16 3.2 GFLOP/s (slow), bfloat16 224 GFLOP/s"
    assert found("number types").found.endswith(figures)
    assert "--dtype bfloat16" in found("number types").advice
    rates[torch.bfloat16] = 1.04
    assert "bfloat16 1.0 GFLOP/s (slow)" in found("number types").found
    assert not found("number types").advice


def test_hosts_are_listed():
    assert found("host frame").state == found("host vidtome").state == "ok"


class TestMetrics:
    @pytest.fixture(autouse=True)
    def nothing_given(self, monkeypatch):
        for variable in WEIGHTS.values():
            monkeypatch.delenv(variable, raising=False)

    def test_each_is_listed(self):
        listed = [finding.name for finding in examine() if finding.name.startswith("metric ")]
        assert listed == [f"metric {name}" for name in registered()]

    def test_what_is_missing_is_said_and_how_to_give_it(self, monkeypatch):
        assert found("metric source_psnr").state == "ok"
        assert found("metric clip_t").found == "without CLIP"
        assert "EVENREEL_CLIP" in found("metric clip_t").advice
        monkeypatch.setitem(sys.modules, "cv2", None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert found("metric s_edit").found == "without CLIP and OpenCV"
        assert "evenreel[metrics]" in found("metric s_edit").advice

    def test_weights_that_are_named(self, monkeypatch, tmp_path):
        monkeypatch.setenv("EVENREEL_CLIP", "mini")
        monkeypatch.setenv("EVENREEL_DINO", str(tmp_path))
        monkeypatch.setenv("EVENREEL_LPIPS", str(tmp_path / "nowhere"))
        findings = {finding.name: finding for finding in examine()}
        assert findings["metric clip_t"].state == findings["metric structure_distance"].state == "ok"
        assert findings["metric lpips_source"].found == "without LPIPS"
        assert "nowhere, which is not there" in findings["EVENREEL_LPIPS"].found

    def test_one_that_does_not_load(self, monkeypatch):
        def fails(name, given=()):
            raise PluginError(f"the metric {name!r} cannot be loaded.")

        monkeypatch.setattr(metric_list, "read_class", lambda _target: None)  # as one of another package
        monkeypatch.setattr(metric_list, "describe_metric", fails)
        assert found("metric warp_error").state == "note"
        assert "cannot be loaded" in found("metric warp_error").found


def test_the_doctor_runs_without_the_libraries_it_looks_for():
    """It must say that torch is missing, not die of it."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'psutil', 'av', 'diffusers')));"
        "from evenreel import installed; there = installed.version;"
        "installed.version = lambda name: None if name == 'torch' else there(name);"
        "from evenreel.workflows.inspect import doctor;"
        "print([(finding.state, finding.name) for finding in doctor.examine()])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "('missing', 'torch')" in ran.stdout
