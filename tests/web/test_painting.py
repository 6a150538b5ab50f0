"""A mask painted on the page's frame, as the file that edits take."""

import numpy as np
import pytest
from PIL import Image

from evenreel import EditSettings, edit_file, load
from evenreel.errors import ClipError, SettingsError
from evenreel.web import form, painting
from evenreel.web.queue import folder
from video.making import moving, write_clip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EVENREEL_CACHE", str(tmp_path / "cache"))


def layer(*, alpha=180, where=np.s_[8:40, 16:30]):
    made = np.zeros((64, 64, 4), dtype=np.uint8)
    made[where] = (255, 255, 255, alpha)
    return made


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"background": layer(), "layers": []},
        {"background": layer(), "layers": None},
        {"layers": [layer(alpha=0)]},
    ],
)
def test_nothing_painted_is_no_mask(value):
    assert painting.painted(value) is None
    assert not folder().exists()


def test_what_is_painted_is_white_in_an_image_that_is_kept_once():
    path = painting.painted({"background": layer(), "layers": [layer(), layer(where=np.s_[50:52, 2:4])]})
    assert path is not None
    mask = np.asarray(Image.open(path))
    assert mask.dtype == np.uint8
    expected = np.zeros((64, 64), dtype=np.uint8)
    expected[8:40, 16:30] = expected[50:52, 2:4] = 255
    assert np.array_equal(mask, expected)
    again = painting.painted({"layers": [layer(where=np.s_[50:52, 2:4], alpha=90), layer()]})
    assert again == path
    assert list(path.parent.iterdir()) == [path]


def test_layers_of_different_sizes_are_refused():
    with pytest.raises(SettingsError, match="differ in size; clear the mask"):
        painting.painted({"layers": [layer(), layer()[:32]]})


def test_a_frame_is_painted_on(tmp_path):
    clip = write_clip(tmp_path / "in.mp4", moving(2, 64, 64))
    shown = painting.canvas_of(str(clip), 1)
    assert shown is not None
    assert np.array_equal(shown["background"], load(clip).frames[1].numpy())
    shown = painting.canvas_of(str(clip))
    assert shown is not None
    assert np.array_equal(shown["background"], load(clip).frames[0].numpy())
    assert painting.painted(shown) is None
    assert painting.canvas_of(None) is None
    with pytest.raises(ClipError):
        painting.canvas_of(str(tmp_path / "nowhere.mp4"))
    with pytest.raises(ClipError, match="has 2 frames"):
        painting.canvas_of(str(clip), 2)


def test_what_is_painted_is_followed_from_its_frame_unless_that_is_empty():
    told = {**form.start(), "prompt": "a star"}
    path = painting.painted({"layers": [layer()]})
    followed = form.settings_of(list(told.values()), path)
    assert (followed.mask, followed.mask_frame) == (str(path), 0)
    assert form.settings_of(form.values_of(followed)) == followed
    still = form.settings_of(list({**told, "mask_frame": None}.values()), path)
    assert (still.mask, still.mask_frame) == (str(path), None)
    assert form.settings_of(form.values_of(still)) == still
    nothing = form.values_of(form.settings_of(list(told.values())))
    assert form.settings_of(nothing, path).mask_frame == 0  # painted after other settings were used again
    clip = form.settings_of(list({**told, "mask": "mask.mp4", "mask_frame": 3}.values()))
    assert (clip.mask, clip.mask_frame) == ("mask.mp4", None)


def test_outside_what_is_painted_an_edit_leaves_the_source(tmp_path, tiny_folder):
    clip = write_clip(tmp_path / "in.mp4", moving(2, 64, 64))
    mask = painting.painted({"layers": [layer(where=np.s_[:, 40:])]})
    settings = EditSettings(
        prompt="a star", model=str(tiny_folder), device="cpu", host="frame", steps=2, mask=str(mask)
    )
    assert form.settings_of(form.values_of(settings)).mask == str(mask)
    edit_file(clip, tmp_path / "out", settings)
    source, edit = load(clip).frames, load(tmp_path / "out").frames
    assert bool((source[:, :, :16] == edit[:, :, :16]).all())
    assert not bool((source[:, :, 48:] == edit[:, :, 48:]).all())


def test_what_is_painted_follows_a_prompt_of_its_own(tmp_path):
    path = tmp_path / "painted.png"
    told = {**form.start(), "prompt": "a star", "region_prompt": "sand\n"}
    alone = form.settings_of(list(told.values()), path)
    assert alone.mask is None
    assert [(use.mask, use.prompt) for use in alone.region] == [(str(path), "sand")]
    assert form.settings_of(form.values_of(alone)) == alone
    both = {**told, "region": "left.png", "region_prompt": "snow\nsand"}
    several = form.settings_of(list(both.values()), path)
    assert [(use.mask, use.prompt) for use in several.region] == [("left.png", "snow"), (str(path), "sand")]
    assert form.settings_of(form.values_of(several)) == several
    masked = form.settings_of(list({**both, "region_prompt": "snow"}.values()), path)
    assert masked.mask == str(path)
    with pytest.raises(SettingsError, match="region_prompt is for a region"):
        form.settings_of(list(told.values()))
