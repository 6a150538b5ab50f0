"""The doctor finds what is missing, and says how to get it."""

import subprocess
import sys

import pytest
import torch

from evenreel import backbones
from evenreel.errors import PluginError, WeightsError
from evenreel.installed import WEIGHTS
from evenreel.metrics.base import registered
from evenreel.ops import number_types
from evenreel.video import codecs
from evenreel.workflows.inspect import doctor
from evenreel.workflows.inspect.doctor import examine


def found(name: str):
    return next(finding for finding in examine() if finding.name == name)


def test_names_are_unique():
    names = [finding.name for finding in examine()]
    assert len(names) == len(set(names))


def test_whatever_is_wrong_comes_with_advice():
    assert all(finding.advice for finding in examine() if finding.state == "missing")


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(doctor, "LIBRARIES", ("no-such-library",))
    assert found("no-such-library").state == "missing"
    assert "pip install no-such-library" in found("no-such-library").advice


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
        broken = {"broken": PluginError("the metric 'broken' cannot be loaded.")}
        monkeypatch.setattr("evenreel.workflows.inspect.metric_list.registered", lambda: broken)
        assert found("metric broken").state == "note"
        assert "cannot be loaded" in found("metric broken").found


def test_the_doctor_runs_without_the_libraries_it_looks_for():
    """It must say that torch is missing, not die of it."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'psutil', 'av', 'diffusers')));"
        "from evenreel.workflows.inspect import doctor; doctor.LIBRARIES = ('no-such-library',);"
        "print([(finding.state, finding.name) for finding in doctor.examine()])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "('missing', 'no-such-library')" in ran.stdout
