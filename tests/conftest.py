"""What all tests share: no network, one thread (several workers run beside each other), a tiny model, a small clip."""

import gc
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import tempfile
from collections.abc import Iterator

import hypothesis
import pytest
import torch

import type_checks
from zygote import Zygote

type_checks.install()

# Edits from the command line keep jobs; those of tests shall not lie among the user's.
_CACHE = tempfile.TemporaryDirectory(prefix="evenreel-cache-")
os.environ["EVENREEL_CACHE"] = _CACHE.name

torch.set_num_threads(1)

# A slow machine is not a failure, and one that is found is found again.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `numerical` all tests of files that use the ruler, `closeness`."""
    for item in items:
        names = vars(item.module).values() if isinstance(item, pytest.Function) else ()
        if any(getattr(value, "__module__", None) == "closeness" for value in names):
            item.add_marker("numerical")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Let garbage be looked for among what tests make: what was imported before them is a hundred times as much."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A tiny Stable Diffusion with random weights, as a diffusers folder; not to be changed."""
    from tiny import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def zygote(tiny_folder) -> Iterator[Zygote]:
    """Starts processes of their own, as forks."""
    if not hasattr(os, "fork"):
        pytest.skip("a system without fork")
    made = Zygote(tiny_folder)
    with made.process:
        yield made
        made.process.terminate()


@pytest.fixture(scope="session")
def clip_with_sound(tmp_path_factory) -> Path:
    """Seven frames of 96 x 64 at 25 a second, with sound; not to be changed."""
    from video.making import moving, write_clip

    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", moving(7, 96, 64), audio="aac")


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    """A folder into which the other package was installed, as a user would install it."""
    pytest.importorskip("hatchling", reason="building the plug-in without a network needs hatchling")
    package = Path(__file__).parent / "plugin_package"
    target = tmp_path_factory.mktemp("site-packages")
    offline = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *offline, "--target", target, package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target
