"""The doctor finds what is missing, and says how to get it."""

import subprocess
import sys

from evenreel import backbones
from evenreel.errors import WeightsError
from evenreel.video import codecs
from evenreel.workflows import doctor
from evenreel.workflows.doctor import examine


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


def test_hosts_are_listed():
    assert found("host frame").state == found("host vidtome").state == "ok"


def test_the_doctor_runs_without_the_libraries_it_looks_for():
    """It must say that torch is missing, not die of it."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'psutil', 'av', 'diffusers')));"
        "from evenreel.workflows import doctor; doctor.LIBRARIES = ('no-such-library',);"
        "print([(finding.state, finding.name) for finding in doctor.examine()])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "('missing', 'no-such-library')" in ran.stdout
