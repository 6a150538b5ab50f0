"""`--mask-model` and `--mask-words`: masks that models of the user's follow or find, in edits and as files."""

import shutil

import pytest
import torch
from PIL import Image

import evenreel
from evenreel import EditSettings, edit_file
from evenreel.cli import main
from evenreel.errors import ClipError, DataError, SettingsError, WeightsError
from evenreel.video import load
from evenreel.web import form
from evenreel.workflows.batch import table
from evenreel.workflows.editing.mask_file import mask_file
from evenreel.workflows.editing.regions import mask_models
from evenreel.workflows.editing.repeat import repeat_edit
from lookers import save_follower, save_words_model
from workflows.editing.test_carried_mask import SIZE, painted, record_of, saved, scene, white

WORDS = {"mask_words": "a red square"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mask models")
    return save_follower(folder / "sam2"), save_words_model(folder / "clipseg")


@pytest.fixture
def follower(models):
    return str(models[0])


@pytest.fixture
def finder(models):
    return str(models[1])


class Redness:
    """A stand-in that knows one colour."""

    def likeness(self, frames, words):
        assert words == WORDS["mask_words"]
        red, others = frames[:, 0], frames[:, 1:].amax(1)
        return (red - others).clamp(0, 1)


@pytest.fixture
def redness(monkeypatch):
    monkeypatch.setattr(mask_models, "words_model", lambda settings, device: Redness())


def overlap(found, exact):
    return (found & exact).flatten(1).sum(1) / (found | exact).flatten(1).sum(1)


class TestAModelThatFollows:
    def test_backwards_is_forwards_through_the_clip_turned_round(self, tmp_path, follower):
        exact = saved(tmp_path / "in", scene(), frames=6)
        (tmp_path / "turned").mkdir()
        for number, file in enumerate(sorted((tmp_path / "in").glob("*.png"), reverse=True)):
            shutil.copy(file, tmp_path / "turned" / f"{number:03}.png")
        mask = painted(tmp_path / "mask.png", exact[5])
        for source, frame, out in (("in", 5, "one"), ("turned", 0, "other")):
            told = EditSettings(mask=mask, mask_frame=frame, mask_model=follower, device="cpu")
            mask_file(tmp_path / source, tmp_path / out, told)
        one, other = white(tmp_path / "one"), white(tmp_path / "other")
        assert torch.equal(one, other.flip(0))
        assert torch.equal(one[5], exact[5])
        by_flow = EditSettings(mask=mask, mask_frame=5)
        mask_file(tmp_path / "in", tmp_path / "flow", by_flow)
        assert not torch.equal(one, white(tmp_path / "flow"))

    def test_windows_change_nothing(self, tmp_path, follower):
        exact = saved(tmp_path / "in", scene(), frames=5)
        told = {"mask": painted(tmp_path / "mask.png", exact[2]), "mask_frame": 2, "mask_model": follower}
        for batch in (1, 5):
            mask_file(tmp_path / "in", tmp_path / f"{batch}", EditSettings(**told, batch=batch, device="cpu"))
        assert torch.equal(white(tmp_path / "1"), white(tmp_path / "5"))

    def test_an_edit_is_that_with_the_mask_that_is_written_and_its_record_is_repeated(
        self, tmp_path, follower, settings
    ):
        exact = saved(tmp_path / "in", scene(), frames=4)
        told = settings(
            mask=painted(tmp_path / "mask.png", exact[1]),
            mask_frame=1,
            mask_model=shutil.copytree(follower, tmp_path / "sam2").as_posix(),
        )
        mask_file(tmp_path / "in", tmp_path / "written", told)
        one = edit_file(tmp_path / "in", tmp_path / "out", told)
        other = edit_file(tmp_path / "in", tmp_path / "other", settings(mask=str(tmp_path / "written")))
        assert torch.equal(load(one.path).frames, load(other.path).frames)
        assert list(one.record["mask_models"]) == ["mask_model"]
        assert other.record["mask_models"] == {}
        again = repeat_edit(record_of(tmp_path / "out"))
        assert torch.equal(load(again.path).frames, load(one.path).frames)
        save_follower(tmp_path / "sam2", seed=1)
        with pytest.raises(WeightsError, match="the models that made the mask are no longer those"):
            repeat_edit(record_of(tmp_path / "out"))

    def test_removal_follows_too_and_needs_no_prompt(self, tmp_path, follower, settings):
        exact = saved(tmp_path / "in", scene(), frames=4)
        told = {
            "mask": painted(tmp_path / "mask.png", exact[1]),
            "mask_frame": 1,
            "remove": True,
            "prompt": "",
        }
        found = edit_file(tmp_path / "in", tmp_path / "out", settings(**told, mask_model=follower))
        assert found.record["kept"]["share"] < 1


class TestWords:
    def test_what_they_say_is_found_and_followed_in_every_scene(self, tmp_path, redness, finder, caplog):
        exact = saved(tmp_path / "in", scene(), scene("snow"), scene("night sky", "yellow"))
        told = EditSettings(**WORDS, mask_words_model=finder, mask_words_threshold=0.3)
        shares = mask_file(tmp_path / "in", tmp_path / "out", told)
        found = white(tmp_path / "out")
        assert overlap(found[:20], exact[:20]).min() > 0.7
        assert not found[20:].any()
        assert shares == pytest.approx((~found).flatten(1).float().mean(1).tolist())
        assert "'a red square' is found on frame" in caplog.text
        assert "not found in 1 of 3 scenes, the first of them from frame 20 on" in caplog.text

    def test_on_the_frame_that_is_named_and_no_other(self, tmp_path, redness, finder):
        exact = saved(tmp_path / "in", scene(), scene("night sky", "yellow"))
        told = EditSettings(**WORDS, mask_words_model=finder, mask_words_threshold=0.3, mask_frame=4)
        mask_file(tmp_path / "in", tmp_path / "out", told)
        found = white(tmp_path / "out")
        assert overlap(found[:10], exact[:10]).min() > 0.7
        other = EditSettings(**WORDS, mask_words_model=finder, mask_frame=12)
        with pytest.raises(SettingsError, match=r"is not found in frame 12 looked at \(at most 0\.\d\d sure"):
            mask_file(tmp_path / "in", tmp_path / "other", other)
        assert not (tmp_path / "other").exists()

    def test_what_is_found_everywhere_is_an_error(self, tmp_path, finder, settings, monkeypatch, backbone):
        saved(tmp_path / "in", scene(), frames=3)

        class All:
            def likeness(self, frames, words):
                return torch.ones(len(frames), *frames.shape[2:])

        monkeypatch.setattr(mask_models, "words_model", lambda settings, device: All())
        told = settings(**WORDS, mask_words_model=finder)
        with pytest.raises(
            SettingsError, match="'a red square' is white throughout the frames that are edited, so that all"
        ):
            evenreel.edit(load(tmp_path / "in"), told, backbone=backbone)

    def test_a_real_model_s_edit_with_both_is_repeated(self, tmp_path, models, settings):
        saved(tmp_path / "in", scene(), frames=4)
        follower, finder = map(str, models)
        told = settings(mask_words="snow", mask_words_model=finder, mask_model=follower)
        clip = load(tmp_path / "in")
        one = edit_file(tmp_path / "in", tmp_path / "out", told)
        assert sorted(one.record["mask_models"]) == ["mask_model", "mask_words_model"]
        assert one.record["mask"] is None
        again = repeat_edit(record_of(tmp_path / "out"))
        frames = load(again.path).frames
        assert torch.equal(frames, load(one.path).frames)
        memory = evenreel.edit(clip, told)
        assert torch.equal(memory.frames, frames)

    def test_the_command_line_writes_a_mask(self, tmp_path, models, capsys):
        saved(tmp_path / "in", scene(), frames=2)
        told = ["mask", str(tmp_path / "in"), "--mask-words", "snow", "--mask-words-model", str(models[1])]
        assert main([*told, "--mask-model", str(models[0]), "--device", "cpu"]) == 0
        assert "in-mask: 2 frames" in capsys.readouterr().out
        assert main([*told, "--mask-words-threshold", "1"]) == 2
        said = capsys.readouterr().err
        assert "--mask-words 'snow' is not found in 2 frames looked at" in said
        assert "--mask-words-threshold is 1" in said


def test_a_table_s_columns_name_them_from_its_own_folder(tmp_path, models):
    exact = saved(tmp_path / "in", scene(), frames=2)
    painted(tmp_path / "mask.png", exact[0])
    shutil.copytree(models[0], tmp_path / "sam2")
    head, row = "clip,prompt,mask,--mask-frame,mask-model,out", "in,a star,mask.png,0,sam2,out"
    (tmp_path / "edits.csv").write_text(f"{head}\n{row}\n", encoding="utf-8")
    (one,) = table.read(tmp_path / "edits.csv")
    told = one.settings.mask, one.settings.mask_model
    assert told == (str(tmp_path / "mask.png"), str(tmp_path / "sam2"))
    (tmp_path / "edits.csv").write_text(f"{head}\n{row.replace('sam2', 'in')}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"row 1: .*config.json is missing"):
        table.read(tmp_path / "edits.csv")
    Image.new("L", (10, 10)).save(tmp_path / "mask.png")
    (tmp_path / "edits.csv").write_text(f"{head}\n{row}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"row 1: .*is 10 x 10 and the clip is 96 x 64"):
        table.read(tmp_path / "edits.csv")


def test_the_page_s_form_holds_them(models):
    told = {**form.start(), "prompt": "a star", "mask_words": "the dog", "mask_words_model": str(models[1])}
    made = form.settings_of(list(told.values()))
    assert (made.mask_words, made.mask_words_model, made.mask_frame) == ("the dog", str(models[1]), None)
    assert form.settings_of(form.values_of(made)) == made


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("told", "said"),
        [
            ({"mask_model": "a"}, "mask_model follows a mask from the frame it was painted on"),
            ({"mask_model": "a", "mask": "b.png"}, "mask_model follows a mask from the frame"),
            (
                {"mask_words": "a dog"},
                "mask_words and mask_words_model go together; give mask_words_model too",
            ),
            ({"mask_words_model": "a"}, "mask_words_model finds what mask_words says, and there is none"),
            (
                {"mask_words": " ", "mask_words_model": "a"},
                "mask_words is empty; say what the mask is to hold",
            ),
            (
                {"mask_words": "a", "mask_words_model": "b", "mask": "c.png"},
                "mask and mask_words both say where to edit",
            ),
            ({"mask_words_threshold": 0.2}, "mask_words_threshold has no effect without mask_words"),
        ],
    )
    def test_settings(self, told, said):
        with pytest.raises(SettingsError, match=said):
            EditSettings(prompt="a", **told)

    def test_a_prompt_is_needed_by_edits_alone(self, tmp_path, finder, settings, backbone):
        saved(tmp_path / "in", scene(), frames=2)
        told = settings(prompt="", **WORDS, mask_words_model=finder)
        with pytest.raises(SettingsError, match="prompt is empty"):
            evenreel.edit(load(tmp_path / "in"), told, backbone=backbone)

    def test_another_model(self, tmp_path, models, tiny_folder):
        exact = saved(tmp_path / "in", scene(), frames=2)
        mask = painted(tmp_path / "mask.png", exact[0])
        for folder, said in (
            (models[1], r"must be a SAM 2 for clips \(sam2_video\), got clipseg"),
            (tiny_folder, "config.json is missing"),
            (tmp_path / "nowhere", "is not a folder; give a SAM 2"),
        ):
            told = EditSettings(mask=mask, mask_frame=0, mask_model=str(folder))
            with pytest.raises(WeightsError, match=said):
                mask_file(tmp_path / "in", tmp_path / "out", told)
        told = EditSettings(**WORDS, mask_words_model=str(models[0]))
        with pytest.raises(WeightsError, match="use a CLIPSeg, for example CIDAS/clipseg-rd64-refined"):
            mask_file(tmp_path / "in", tmp_path / "out", told)

    def test_a_frame_behind_the_end_and_frames_too_small_for_flow(self, tmp_path, redness, finder):
        saved(tmp_path / "in", scene(), frames=2)
        with pytest.raises(SettingsError, match="mask_frame is 2, and frames 0 to 1 are edited"):
            mask_file(
                tmp_path / "in",
                tmp_path / "out",
                EditSettings(**WORDS, mask_words_model=finder, mask_frame=2),
            )
        (tmp_path / "small").mkdir()
        for number in range(2):
            Image.new("RGB", (6, 6), (255, 0, 0)).save(tmp_path / "small" / f"{number}.png")
        with pytest.raises(ClipError, match=r"the mask cannot be followed: .*no flow for frames of 6 x 6"):
            mask_file(tmp_path / "small", tmp_path / "out", EditSettings(**WORDS, mask_words_model=finder))


def test_frames_that_are_larger_are_followed_as_the_model_sees_them(tmp_path, follower, monkeypatch):
    """What is kept is small, what the model is shown is not smaller than it sees."""
    monkeypatch.setattr(mask_models, "SIDE", 16)
    exact = saved(tmp_path / "in", scene(), frames=3)
    seen = []
    begin = mask_models.ByModel.begin
    monkeypatch.setattr(
        mask_models.ByModel,
        "begin",
        lambda self, picture, mask: seen.append(picture.shape) or begin(self, picture, mask),
    )
    mask = painted(tmp_path / "mask.png", exact[0])
    told = EditSettings(mask=mask, mask_frame=0, mask_model=follower, device="cpu")
    mask_file(tmp_path / "in", tmp_path / "out", told)
    assert seen == [(SIZE[1], SIZE[0], 3)]
    assert white(tmp_path / "out").shape[1:] == (SIZE[1], SIZE[0])
