"""Long clips: what lies on disk gives what memory gives, bit for bit, in every host and with every inversion."""

import pytest
import torch

from evenreel import registry, scratch
from evenreel.backbones import load_backbone
from evenreel.diffusion import trajectory
from evenreel.jobs import reached
from evenreel.jobs.reached import Reached
from evenreel.settings import EditSettings
from evenreel.workflows.editing.computing import differences
from evenreel.workflows.editing.edit import edit_file
from hosts.jobs import random_latents
from motion.moving import random_motion
from workflows.editing.test_motion_use import INVERSIONS, QUICK, edited

HOSTS = registry.names(registry.HOSTS)


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu")


@pytest.fixture
def on_disk(monkeypatch):
    """Everything of clip length lies on disk from here on; says how often room was made there."""

    def turn():
        rooms = []
        real = scratch.on_map
        monkeypatch.setattr(scratch, "LIMIT", 1500)  # a frame's latents have 1,024 bytes
        monkeypatch.setattr(scratch, "PIECE", 2500)
        monkeypatch.setattr(trajectory, "DEFAULT_MEMORY_LIMIT", 0)
        monkeypatch.setattr(scratch, "on_map", lambda *args: rooms.append(args) or real(*args))
        return rooms

    return turn


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("moved", [False, True], ids=["plain", "moved"])
def test_every_host(host, moved, tiny, on_disk):
    clip, modules = random_latents(7).float(), random_motion(tiny.unet) if moved else None
    told = {"batch": 3, "prompt": "0: a star | 3: a ball"}
    before = edited(tiny, host, clip, modules, **told)
    rooms = on_disk()
    assert torch.equal(edited(tiny, host, clip, modules, **told), before)
    assert len(rooms) > 4


@pytest.mark.parametrize("inversion", INVERSIONS)
def test_every_inversion(inversion, tiny, on_disk):
    """With motion modules, with which a whole clip is inverted together."""
    clip, modules = random_latents(5).float(), random_motion(tiny.unet)
    told = {"inversion": inversion, "inversion_options": QUICK.get(inversion, {}), "batch": 2}
    before = edited(tiny, "frame", clip, modules, **told)
    on_disk()
    assert torch.equal(edited(tiny, "frame", clip, modules, **told), before)


def test_a_whole_edit(tiny, tiny_folder, clip_with_sound, tmp_path, on_disk):
    """With a region, a job and frames written: the files have the same bytes."""
    told = {"prompt": "a star", "source_prompt": "a ball", "steps": 2, "batch": 3, "model": str(tiny_folder)}
    settings = EditSettings(**told, device="cpu", host="frame", size=32)
    edit_file(clip_with_sound, tmp_path / "one", settings, backbone=tiny)
    on_disk()
    edit_file(clip_with_sound, tmp_path / "two", settings, backbone=tiny)
    edit_file(clip_with_sound, tmp_path / "three", settings, backbone=tiny, job=tmp_path / "job")
    for other in ("two", "three"):
        for path in (tmp_path / "one").iterdir():
            assert path.read_bytes() == (tmp_path / other / path.name).read_bytes()


def test_agreement_is_found_in_pieces(on_disk):
    difference = torch.rand(40, 4, 16, 16) - 0.3
    whole = differences.agreement(difference)
    assert 0.05 < whole < 0.95
    on_disk()
    assert differences.agreement(difference) == pytest.approx(whole, rel=1e-12)


def test_regions_are_found_in_pieces(on_disk):
    difference = torch.rand(40, 16, 16) * 0.01
    for frame in range(40):  # something that moves, and is now there, now not
        difference[frame, frame // 4 : frame // 4 + 6, 3:10] += 0.2 * (frame % 7 < 4)
    found = differences.concerned(difference), differences.averaged(difference)
    ranks = [differences.smallest_of(difference, rank) for rank in (1, 77, 10240)]
    assert 0.1 < found[0].float().mean() < 0.9
    on_disk()
    assert torch.equal(differences.concerned(difference), found[0])
    assert torch.equal(differences.averaged(difference), found[1])
    assert [differences.smallest_of(difference, rank) for rank in (1, 77, 10240)] == ranks


def test_what_was_reached_comes_back(tmp_path, on_disk):
    latents = torch.randn(9, 4, 8, 8)
    on_disk()
    reached.write(tmp_path / "reached", Reached(3, latents, {}))
    found = reached.read(tmp_path / "reached", torch.device("cpu"))
    assert found is not None
    assert found.steps == 3
    assert torch.equal(found.latents, latents)
