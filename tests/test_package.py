"""What is built: a wheel with all that runs, a description that stands alone, sources without recorded studies."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

from evenreel import __version__

ROOT = Path(__file__).parents[1]

pytest.importorskip("hatchling", reason="hatchling builds the package")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with both files."""
    folder = tmp_path_factory.mktemp("dist")
    told = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(told, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        return Parser().parsestr(archive.read(name).decode("utf-8"))


def test_the_wheel_holds_all_that_runs(wheel):
    there = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src/evenreel").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert there <= set(archive.namelist())


def test_the_sources_hold_no_recorded_studies(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
        "LICENSE",
        "scripts/setup",
        "SECURITY.md",
    } <= names
    assert not [name for name in names if name.startswith("docs/study/")]


def test_the_description_stands_alone(metadata):
    text = metadata.get_payload()
    assert text.startswith("# evenreel")
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert targets
    assert all(target.startswith("https://") for target in targets)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "evenreel demo" in text
    assert len(text) > 0.8 * len(readme)


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]*)\)", text):
        assert target.startswith("https://") or (ROOT / target.partition("#")[0]).exists(), target


def test_the_metadata(metadata):
    assert metadata["Author"] == "evenreel developers"
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == ">=3.11"


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_lowest_versions_are_the_bounds_that_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    extras = project["optional-dependencies"]
    for line in (*project["dependencies"], *extras["metrics"], *extras["test"], *extras["rating"]):
        name, _, bound = line.partition(">=")
        parts, wanted = pinned[name].split("."), bound.split(".")
        assert parts[: len(wanted)] == wanted, line
        assert set(parts[len(wanted) :]) <= {"0"}, f"{line}, and {pinned[name]} is not the lowest"


def test_the_wheel_runs_elsewhere(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")  # noqa: S202  (ours)
    told = [sys.executable, "-m", "evenreel", "demo", "--frames", "1", "--steps", "1", "-q"]
    # without the module path of the tests, nor the checkout
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run(told, cwd=tmp_path, env=environment | {"PYTHONPATH": str(tmp_path / "site")}, check=True)
    assert (tmp_path / "demo/edit.mp4").stat().st_size > 0
