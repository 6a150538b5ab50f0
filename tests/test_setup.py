"""`scripts/setup`, and what calls it, with a Python that only pretends: what was interrupted or moved heals."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAKE = """#!{sh}
# Pretends to be Python: makes environments that hold nothing but itself and a pip, and notes what is installed.
here=$0
case "$1 $2" in
"-c "*) [ -z "$OLD" ] ;;
"--version ") echo Python 3.11.0 ;;
"-m venv")
    shift 2
    mkdir -p "$1/bin"
    cp "$here" "$1/bin/python"
    touch "$1/pyvenv.cfg"
    [ -n "$CUT" ] && exit 130
    printf '#!%s/bin/python\\n' "$1" >"$1/bin/pip"
    chmod +x "$1/bin/pip"
    ;;
"-m pip")
    [ -e "$(dirname "$here")/pip" ] || exit 1 # No module named pip
    case "$3" in --version | index) exit 0 ;; esac
    [ -n "$CUT_PIP" ] && exit 130
    printf '%s\\n' "$*" >>"$LOG"
    ;;
*) exit 2 ;;
esac
"""

pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="scripts are for shells; on Windows pip is the way in"
)


@pytest.fixture
def checkout(tmp_path):
    """A repository with what set-up reads."""
    root = tmp_path / "one" / "evenreel"
    (root / "scripts").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "constraints-lowest.txt", "scripts/setup"):
        shutil.copy(ROOT / name, root / name)
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(FAKE.format(sh=shutil.which("sh")), encoding="utf-8")
    python.chmod(0o755)
    return root


def set_up(root: Path, script: Path | None = None, **environment: str):
    """Run set-up; returns what it said and its exit status, and what pip was told in this run."""
    fakes = next(parent for parent in root.parents if (parent / "bin" / "python3").exists()) / "bin"
    log = fakes.parent / "log"
    log.write_text("", encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EVENREEL_")}
    told = {"PATH": f"{fakes}:{kept['PATH']}", "LOG": str(log), "EVENREEL_TORCH_INDEX": "", **environment}
    done = subprocess.run(
        [str(script or root / "scripts/setup")],
        env={**kept, **told},
        cwd=fakes,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr, done.returncode, log.read_text(encoding="utf-8").splitlines()


def assert_set_up(root: Path, **environment: str) -> None:
    said, status, installed = set_up(root, **environment)
    assert status == 0, said
    assert len(installed) == 2, said
    again = set_up(root, **environment)
    assert again == ("", 0, [])


def test_it_sets_up_once(checkout):
    assert_set_up(checkout)


@pytest.mark.parametrize("where", ["CUT", "CUT_PIP"])
def test_what_was_interrupted_is_made_anew(checkout, where):
    said, status, _ = set_up(checkout, **{where: "1"})
    assert status != 0, said
    assert_set_up(checkout)


def test_an_interrupted_environment_elsewhere_too(checkout, tmp_path):
    place = str(tmp_path / "elsewhere")
    assert set_up(checkout, EVENREEL_VENV=place, CUT="1")[1] != 0
    assert_set_up(checkout, EVENREEL_VENV=place)


def test_an_environment_of_before_that_was_interrupted(checkout):
    """An earlier set-up left no mark of having begun."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(checkout.parents[1] / "bin/python3", checkout / ".venv/bin/python")
    (checkout / ".venv/pyvenv.cfg").touch()
    assert_set_up(checkout)


def test_a_moved_repository_gets_another_environment(checkout, tmp_path):
    assert_set_up(checkout)
    moved = tmp_path / "two"
    checkout.parent.rename(moved)
    root = moved / checkout.name
    assert_set_up(root)
    assert str(root) in (root / ".venv/bin/pip").read_text(encoding="utf-8")


def test_a_folder_that_is_not_ours_stays(checkout, tmp_path):
    place = tmp_path / "mine"
    place.mkdir()
    (place / "letter").write_text("dear", encoding="utf-8")
    said, status, _ = set_up(checkout, EVENREEL_VENV=str(place))
    assert status == 1
    assert "name another folder" in said
    assert (place / "letter").read_text(encoding="utf-8") == "dear"


@pytest.mark.parametrize("wrong", ["/nowhere/python3", "too old"])
def test_a_wrong_python_is_an_error(checkout, wrong):
    more = {"OLD": "1"} if wrong == "too old" else {}
    wrong = str(checkout.parents[1] / "bin/python3") if more else wrong
    said, status, _ = set_up(checkout, EVENREEL_PYTHON=wrong, **more)
    assert status == 1
    assert f"EVENREEL_PYTHON is {wrong}" in said
    assert not (checkout / ".venv").exists()


def test_through_a_link_from_elsewhere(checkout, tmp_path):
    link, nearer = tmp_path / "here" / "setup", tmp_path / "here" / "again"
    link.parent.mkdir()
    link.symlink_to(checkout / "scripts/setup")
    nearer.symlink_to("setup")
    said, status, _ = set_up(checkout, nearer)
    assert status == 0, said
    assert (checkout / ".venv/bin/python").exists()
    assert not (tmp_path / "here/.venv").exists()


def test_the_lowest_versions_have_an_environment_of_their_own(checkout):
    lowest = {"EVENREEL_CONSTRAINTS": "constraints-lowest.txt", "EVENREEL_EXTRAS": "test"}
    said, status, installed = set_up(checkout, EVENREEL_VENV=".venv-lowest", **lowest)
    assert status == 0, said
    assert all("--constraint constraints-lowest.txt" in line for line in installed)
    assert installed[1].endswith("--editable .[test]")
    assert (checkout / ".venv-lowest/bin/python").exists()
    assert not (checkout / ".venv").exists()


@pytest.mark.skipif(sys.platform == "win32" or shutil.which("git") is None, reason="there is no git here")
def test_a_clone_keeps_the_ends_of_lines(tmp_path):
    def git(*words: object) -> None:
        subprocess.run(["git", *map(str, words)], check=True, capture_output=True)

    source = tmp_path / "source"
    (source / "scripts").mkdir(parents=True)
    for name in (".gitattributes", "scripts/setup", "constraints.txt"):
        shutil.copy(ROOT / name, source / name)
    git("init", "-q", source)
    git("-C", source, "add", ".")
    git("-C", source, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all")
    clone = tmp_path / "clone"
    git("clone", "-q", "-c", "core.autocrlf=true", source, clone)
    for name in ("scripts/setup", "constraints.txt"):
        assert b"\r" not in (clone / name).read_bytes()
