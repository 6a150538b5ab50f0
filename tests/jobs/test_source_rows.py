"""`--reuse-source`: a second prompt on a clip computes nothing of the source, and ends with the bytes it always has."""

import pytest

from evenreel import EditSettings, edit_file
from evenreel.backbones import load_backbone
from evenreel.jobs import inversions, places, source_rows
from video.making import moving, write_clip


@pytest.fixture(scope="module")
def backbone(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EVENREEL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def make(tmp_path, backbone, tiny_folder):
    clip = write_clip(tmp_path / "in.mp4", moving(3, 64, 64))

    def edit(name, *, job="auto", **changes):
        told = {
            "prompt": "a red star",
            "source_prompt": "a blue ball",
            "host": "frame",
            "keep": "off",
            "size": 64,
        }
        told |= {"steps": 4, "model": str(tiny_folder), "device": "cpu", "reuse_source": True}
        made = edit_file(
            clip,
            tmp_path / name,
            EditSettings(**{**told, **changes}),
            backbone=backbone,
            job=job,
            profile=True,
        )
        return made.path.read_bytes(), made.record

    return edit


def rows(record):
    return record["profile"]["stages"]["sample"]["rows"]


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"cache_interval": 2},
        {"cache_interval": 2, "guidance_interval": (0.0, 0.6)},  # which begins between two steps that share
        *({"inversion": name} for name in ("bilateral", "ddim", "ddpm", "fixed-point", "null-text")),
    ],
    ids=str,
)
def test_a_second_prompt_passes_no_source_and_has_the_bytes_of_an_edit_that_keeps_nothing(make, told):
    _, first = make("first.mp4", **told)
    found, second = make("second.mp4", prompt="a green cube", **told)
    alone, whole = make("alone.mp4", prompt="a green cube", job=None, **told)
    assert found == alone
    injected = {None: 4, "ddpm": 2}.get(
        told.get("inversion"), 3
    )  # steps with a source: all, or those that inject
    assert rows(first) - rows(second) == 3 * injected
    assert rows(whole) == rows(first)


def test_what_decides_the_source_is_another_source(make):
    make("first.mp4")
    for told in ({"seed": 1}, {"source_prompt": "a ball"}, {"host_options": {"pnp_conv": 0.3}}, {"batch": 2}):
        _, record = make("other.mp4", **told)
        assert rows(record) == 3 * 3 * 4


def test_damaged_pages_are_made_again(make):
    whole, _ = make("first.mp4")
    pages = [path for path in places.inversions().rglob("*.safetensors") if len(path.stem) == 32]
    assert len(pages) == 4
    pages[0].write_bytes(pages[0].read_bytes()[:100])
    pages[1].unlink()
    again, record = make("again.mp4")
    assert again == whole
    assert rows(record) == (2 * 4 + 2) * 3


def test_a_cache_without_room_is_said_and_changes_nothing(make, monkeypatch):
    whole, _ = make("first.mp4")
    monkeypatch.setenv(places.LIMIT, "0.00001")
    small, record = make("small.mp4", seed=1)
    assert any("no room for 4 of the source's network calls" in notice for notice in record["warnings"])
    monkeypatch.delenv(places.LIMIT)
    assert make("large.mp4", seed=1)[0] == small != whole


def test_an_edit_without_a_job_says_that_nothing_is_kept(make):
    _, record = make("first.mp4", job=None)
    assert record["warnings"] == ["an edit without a job keeps nothing of the source for other prompts."]


def test_other_hosts_say_that_nothing_is_kept(make):
    with_notice, record = make("a.mp4", host="vidtome")
    assert record["warnings"] == ["with host vidtome nothing of the source is kept for other prompts."]
    assert with_notice == make("b.mp4", host="vidtome", reuse_source=False)[0]


def test_pages_go_with_what_was_used_longest_ago(make, monkeypatch):
    make("first.mp4")
    monkeypatch.setenv(places.LIMIT, "0")
    inversions.prune()
    assert not list(places.inversions().rglob("*.safetensors"))


def test_two_edits_at_once_do_not_share_pages(make):
    make("first.mp4")
    (folder,) = (
        path for path in places.inversions().iterdir() if not (path / "trajectory.safetensors").exists()
    )
    with source_rows.kept(folder.name) as one, source_rows.kept(folder.name) as other:
        assert one is not None
        assert other is None
        assert any(
            "another edit uses what is kept" in said for said in make("second.mp4", seed=0)[1]["warnings"]
        )
    assert not make("third.mp4")[1]["warnings"]


def test_it_is_in_the_record(make):
    _, record = make("first.mp4")
    assert record["settings"]["reuse_source"] is True
