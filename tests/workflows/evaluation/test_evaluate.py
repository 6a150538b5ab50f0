"""Evaluation of files: what is compared with what, and what is said of it."""

import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image

from evenreel.backbones import mini
from evenreel.errors import ClipError, OutputError, PluginError, WeightsError
from evenreel.metrics.base import registered
from evenreel.metrics.fidelity import SourcePsnr
from evenreel.progress import silent
from evenreel.settings import EditSettings
from evenreel.video import from_model
from evenreel.workflows.editing.edit import edit_file
from evenreel.workflows.evaluation import json_output
from evenreel.workflows.evaluation.evaluate import Evaluation, Evaluator, Failure, means
from evenreel.workflows.evaluation.pairs import Pair
from evenreel.world import HELD_OUT, caption, random_scene, render
from towers import save_clip, save_dino, save_lpips
from video.making import moving, write_clip

FREE = ("source_psnr", "source_ssim")


def pixels(scene, count=6, size=48):
    frames = render(scene, range(count), size, maps=False).frames
    return from_model(frames, (frames.shape[3], frames.shape[2])).numpy()


def write_images(folder, pictures, name="{:03d}.png"):
    folder.mkdir(parents=True)
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / name.format(index))
    return folder


@pytest.fixture(scope="module")
def scenes():
    scene = random_scene(HELD_OUT + 7, objects=1)  # its camera rests: most of it stands still
    return scene, scene.edited(colour="blue" if scene.main.colour != "blue" else "red")


@pytest.fixture(scope="module")
def clips(scenes, tmp_path_factory):
    """A source and its true edit, as folders of images; not to be changed."""
    folder = tmp_path_factory.mktemp("evaluate")
    return tuple(
        write_images(folder / name, pixels(scene))
        for name, scene in zip(("source", "edit"), scenes, strict=True)
    )


def evaluated(source, edit, *metrics, **known) -> Evaluation:
    return Evaluator(metrics=metrics or FREE).evaluate(Pair(source=source, edit=edit, **known))


def slow_psnr(one, other, counts=None):
    error = (one.astype(float) - other.astype(float)) ** 2 / 255**2
    return -10 * math.log10(error.mean() if counts is None else error[counts].mean())


class TestFrames:
    def test_they_are_those_of_pillow(self, clips, scenes):
        """In the right colours and the right order; the figure is that of the 8-bit files."""
        found = evaluated(*clips)
        expected = slow_psnr(*(pixels(scene) for scene in scenes))
        assert found.figures["source_psnr"].value == pytest.approx(expected, abs=1e-4)
        assert found.frames == 6
        assert found.size == (48, 48)
        assert found.notes == []

    def test_red_and_blue_swapped_is_seen(self, clips, scenes, tmp_path):
        swapped = write_images(tmp_path / "bgr", [p[..., ::-1] for p in pixels(scenes[0])])
        assert evaluated(clips[0], swapped).figures["source_psnr"].value < 25

    def test_images_are_in_the_order_of_their_numbers(self, scenes, tmp_path):
        """frame2 comes before frame10; sorted by letters, or not at all, frames would be compared with others."""
        pictures = pixels(scenes[0], 12)
        one = write_images(tmp_path / "one", pictures, "frame{}.png")
        other = write_images(tmp_path / "other", pictures, "{:06d}.png")
        assert "identical" in evaluated(one, other).figures["source_psnr"].unavailable

    def test_a_video_and_images(self, tmp_path):
        pictures = moving(5, 64, 48)
        video = write_clip(tmp_path / "a.mp4", pictures, pixel_format="yuv444p", options={"crf": "1"})
        folder = write_images(tmp_path / "b", pictures)
        found = evaluated(folder, video)
        assert found.figures["source_psnr"].value > 35
        assert found.notes == []

    def test_windows_are_joined(self, clips, monkeypatch):
        """Whatever fits into memory at once, the figures are the same."""
        names = ("source_psnr", "source_ssim", "warp_error", "clip_f")
        whole = Evaluator(metrics=names, clip="mini").evaluate(Pair(source=clips[0], edit=clips[1]))
        monkeypatch.setattr("evenreel.workflows.evaluation.side_by_side.WINDOW_PIXELS", 2 * 48 * 48)
        parts = Evaluator(metrics=names, clip="mini").evaluate(Pair(source=clips[0], edit=clips[1]))
        for name in names:
            assert parts.figures[name].value == pytest.approx(whole.figures[name].value, rel=1e-5)

    def test_single_images(self, clips):
        found = evaluated(*(clip / "000.png" for clip in clips), *FREE, "warp_error")
        assert found.figures["source_psnr"].value is not None
        assert "one frame" in found.figures["warp_error"].unavailable


class TestThatDoNotFit:
    def test_another_number_of_frames(self, clips, scenes, tmp_path):
        edit = write_images(tmp_path / "edit", pixels(scenes[1], 4))
        with pytest.raises(ClipError, match=r"has 6 frames to compare and the edit .* 4; say with frames"):
            evaluated(clips[0], edit)
        found = evaluated(clips[0], edit, frames=(0, 4))
        assert found.frames == 4
        with pytest.raises(ClipError, match="frames"):
            evaluated(clips[0], edit, frames=(0, 3))

    @pytest.mark.parametrize(("one", "other"), [(20, 18), (18, 20), (16, 17), (33, 16)])
    def test_files_that_do_not_say_how_many(self, one, other, tmp_path):
        source = write_clip(tmp_path / "a.mkv", moving(one, 32, 32))
        edit = write_clip(tmp_path / "b.mkv", moving(other, 32, 32))
        short, long = min(one, other), f"more than {min(one, other)}"
        said = (short, long) if one < other else (long, short)
        with pytest.raises(ClipError, match=rf"has {said[0]} frames to compare and the edit \S+ {said[1]};"):
            evaluated(source, edit)

    def test_the_right_part_is_compared(self, scenes, tmp_path):
        pictures = pixels(scenes[0], 8)
        whole, part = (
            write_images(tmp_path / "whole", pictures),
            write_images(tmp_path / "part", pictures[3:6]),
        )
        assert "identical" in evaluated(whole, part, frames=(3, 6)).figures["source_psnr"].unavailable

    def test_another_size(self, clips, scenes, tmp_path):
        twice = pixels(scenes[0]).repeat(2, axis=1).repeat(2, axis=2)
        larger = write_images(tmp_path / "larger", twice)
        found = evaluated(clips[0], larger)
        assert found.size == (48, 48)
        assert found.figures["source_psnr"].value > 30
        assert found.notes == ["the edit (96 x 96) was brought to the size of the source (48 x 48)"]

    def test_another_aspect_ratio(self, clips, scenes, tmp_path):
        wide = write_images(tmp_path / "wide", pixels(scenes[0], size=(48, 96)))
        assert "aspect ratio differs" in evaluated(clips[0], wide).notes[0]

    def test_another_time(self, tmp_path):
        slow = write_clip(tmp_path / "slow.mp4", moving(5), rate=10)
        fast = write_clip(tmp_path / "fast.mp4", moving(5), rate=25)
        found = evaluated(slow, fast)
        assert found.notes == [
            "source and edit show their frames at different times; they were paired by order"
        ]
        assert evaluated(slow, slow).notes == []

    def test_what_is_not_there(self, clips, tmp_path):
        with pytest.raises(ClipError, match=r"nowhere.*cannot be read"):
            evaluated(clips[0], tmp_path / "nowhere.mp4")


class TestMasks:
    @pytest.fixture
    def half(self):
        """Left half was to be edited."""
        mask = np.zeros((48, 48), np.uint8)
        mask[:, :24] = 255
        return mask

    @pytest.fixture
    def expected(self, scenes):
        one, other = (pixels(scene) for scene in scenes)
        return slow_psnr(one[:, :, 24:], other[:, :, 24:])

    def background_psnr(self, clips, mask):
        return evaluated(*clips, "background_psnr", mask=mask)

    def test_one_image_for_all_frames(self, clips, half, expected, tmp_path):
        Image.fromarray(half).save(tmp_path / "mask.png")
        found = self.background_psnr(clips, tmp_path / "mask.png")
        assert found.figures["background_psnr"].value == pytest.approx(expected, abs=1e-4)

    @pytest.mark.parametrize("level", [1, 38, 128, 255])
    def test_levels_of_a_label_map(self, clips, half, expected, level, tmp_path):
        """Masks with 1 for 255, as many data sets have them, are not taken for black."""
        masks = [np.where(half > 0, level, 0).astype(np.uint8)] * 6
        found = self.background_psnr(clips, write_images(tmp_path / "masks", masks))
        assert found.figures["background_psnr"].value == pytest.approx(expected, abs=1e-4)

    def test_a_mask_that_is_transparent_around(self, clips, half, expected, tmp_path):
        """What is cut out is marked; on white, as pictures are laid, everything would be."""
        cut_out = np.dstack([np.full_like(half, 255)] * 3 + [half])
        Image.fromarray(cut_out).save(tmp_path / "mask.png")
        found = self.background_psnr(clips, tmp_path / "mask.png")
        assert found.figures["background_psnr"].value == pytest.approx(expected, abs=1e-4)

    def test_a_video(self, clips, half, expected, tmp_path):
        pictures = [np.repeat(half[..., None], 3, axis=-1)] * 6
        found = self.background_psnr(clips, write_clip(tmp_path / "mask.mp4", pictures))
        assert found.figures["background_psnr"].value == pytest.approx(expected, abs=0.3)

    def test_another_size(self, clips, half, expected, tmp_path):
        masks = [np.kron(half, np.ones((2, 2), np.uint8))] * 6
        found = self.background_psnr(clips, write_images(tmp_path / "masks", masks))
        assert found.figures["background_psnr"].value == pytest.approx(expected, abs=1e-4)
        assert found.notes == ["the mask (96 x 96) was brought to the size of the source (48 x 48)"]

    def test_of_the_whole_source(self, clips, half, tmp_path):
        """The mask of the source's frames is cut as the source is."""
        masks = [half, half, half.T.copy(), half.T.copy(), half, half]
        part = write_images(
            tmp_path / "part", [np.asarray(Image.open(clips[1] / f"00{i}.png")) for i in (2, 3)]
        )
        folder = write_images(tmp_path / "masks", masks)
        found = evaluated(clips[0], part, "background_psnr", mask=folder, frames=(2, 4))
        one = np.stack([np.asarray(Image.open(clips[0] / f"00{i}.png")) for i in (2, 3)])
        other = np.stack([np.asarray(Image.open(clips[1] / f"00{i}.png")) for i in (2, 3)])
        assert found.figures["background_psnr"].value == pytest.approx(
            slow_psnr(one[:, 24:], other[:, 24:]), abs=1e-4
        )

    def test_nothing_marked_is_told(self, clips, tmp_path):
        black = [np.zeros((48, 48), np.uint8)] * 6
        found = self.background_psnr(clips, write_images(tmp_path / "masks", black))
        assert found.notes == ["the mask marks nothing: everything counts as background"]
        assert found.figures["background_psnr"].value is not None

    def test_everything_marked_leaves_nothing(self, clips, tmp_path):
        white = [np.full((48, 48), 255, np.uint8)] * 6
        found = self.background_psnr(clips, write_images(tmp_path / "masks", white))
        assert found.figures["background_psnr"].unavailable == "the mask leaves no background"

    def test_another_number(self, clips, half, tmp_path):
        with pytest.raises(ClipError, match=r"and the mask .* 4; give one frame for each"):
            self.background_psnr(clips, write_images(tmp_path / "masks", [half] * 4))


def test_truth_and_flow(clips, scenes, tmp_path):
    flow = render(scenes[0], range(6), 48).flow
    (tmp_path / "flow").mkdir()
    for index, field in enumerate(flow):
        np.save(tmp_path / "flow" / f"{index}.npy", field.numpy())
    names = ("truth_psnr", "truth_ssim", "warp_error")
    found = evaluated(*clips, *names, truth=clips[1], flow=tmp_path / "flow")
    assert "identical" in found.figures["truth_psnr"].unavailable
    assert found.figures["truth_ssim"].value == pytest.approx(1)
    assert found.figures["warp_error"].value < 0.01
    assert "given in" in found.flow


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_folder):
    """An edit of frames 2 to 5 by evenreel itself."""
    folder = tmp_path_factory.mktemp("record")
    source = write_clip(folder / "in.mp4", moving(7, 64, 64))
    settings = EditSettings(
        prompt="a blue star on snow",
        source_prompt="a red star on snow",
        model=str(tiny_folder),
        steps=1,
        frames=(2, 5),
        host="frame",
    )
    edit_file(source, folder / "out.mp4", settings, progress=silent)
    return source, folder / "out.mp4"


class TestRecord:
    def test_prompts_and_frames_come_from_it(self, made):
        found = evaluated(*made)
        assert (found.pair.prompt, found.pair.source_prompt) == ("a blue star on snow", "a red star on snow")
        assert found.frames == 3
        assert found.notes == []

    def test_what_is_given_goes_first(self, made):
        found = evaluated(*made, prompt="a ring")
        assert (found.pair.prompt, found.pair.source_prompt) == ("a ring", "a red star on snow")

    def test_another_source_is_told_of(self, made, tmp_path):
        """The part that was edited, cut out: all of it is compared, and the record's hash does not hold."""
        other = write_clip(tmp_path / "part.mp4", moving(7, 64, 64)[2:5])
        found = evaluated(other, made[1])
        assert found.frames == 3
        assert found.notes == ["the record beside the edit was made from another source file than this one"]

    def test_another_json_is_no_record(self, clips, tmp_path):
        shutil.copytree(clips[1], tmp_path / "edit")
        (tmp_path / "edit.json").write_text('{"prompt": "a ring"}')
        found = evaluated(clips[0], tmp_path / "edit", "clip_t")
        assert found.pair.prompt is None
        assert "no prompt is known" in found.figures["clip_t"].unavailable

    def test_mini_looks_at_what_mini_made(self, made, tmp_path):
        for file in made[1], made[1].with_suffix(".json"):
            shutil.copy(file, tmp_path)
        found = evaluated(made[0], tmp_path / "out.mp4", "clip_t")
        assert "no CLIP was given" in found.figures["clip_t"].unavailable
        values = json.loads((tmp_path / "out.json").read_text())
        values["settings"]["model"] = "mini"
        (tmp_path / "out.json").write_text(json.dumps(values))
        found = evaluated(made[0], tmp_path / "out.mp4", "clip_t")
        assert found.figures["clip_t"].value is not None
        assert found.models["clip"]["name"] == "mini"

    def test_its_place_is_not_taken(self, made):
        with pytest.raises(OutputError, match="is not an evaluation"):
            json_output.check_place(made[1].with_suffix(".json"))


class TestModels:
    def test_everything_at_once(self, clips, scenes, tmp_path):
        evaluator = Evaluator(
            clip=str(save_clip(tmp_path / "clip")),
            dino=str(save_dino(tmp_path / "dino")),
            lpips=save_lpips(tmp_path / "lpips.safetensors"),
        )
        mask = np.zeros((48, 48), np.uint8)
        mask[10:38, 10:38] = 255
        Image.fromarray(mask).save(tmp_path / "mask.png")
        pair = Pair(
            source=clips[0],
            edit=clips[1],
            prompt=caption(scenes[1]),
            source_prompt=caption(scenes[0]),
            mask=tmp_path / "mask.png",
            truth=clips[0],
        )
        found = evaluator.evaluate(pair)
        assert list(found.figures) == list(registered())
        missing = {n: f.unavailable for n, f in found.figures.items() if f.value is None}
        assert "identical" in missing.pop("rest_truth_psnr")  # far from the object nothing was changed
        assert all("no Inception" in missing.pop(name) for name in ("frechet_inception", "kid_inception"))
        # An untrained CLIP may well see the opposite of the prompt.
        assert missing.keys() <= {"s_edit", "q_edit"}
        assert all("CLIP-T is below zero" in reason for reason in missing.values())
        assert set(found.models) == {"clip", "lpips", "dino"}
        text = json.dumps(json_output.one(found), allow_nan=False)
        assert json.loads(text)["metrics"]["clip_t"]["better"] == "higher"

    def test_weights_that_are_named_must_be_there(self, tmp_path):
        with pytest.raises(WeightsError, match="cannot be read"):
            Evaluator(lpips=tmp_path / "lpips.safetensors")
        with pytest.raises(WeightsError, match="is not a folder"):
            Evaluator(clip=str(tmp_path / "clip"))
        with pytest.raises(WeightsError, match="is not a folder"):
            Evaluator(dino=str(tmp_path / "dino"))

    def test_what_no_metric_needs_is_not_loaded(self, tmp_path):
        Evaluator(metrics=FREE, lpips=tmp_path / "nowhere", clip="nowhere", dino="nowhere")

    def test_unknown_metrics(self):
        with pytest.raises(PluginError, match="no metric 'psnr'"):
            Evaluator(metrics=("psnr",))

    def test_without_opencv(self, clips, monkeypatch):
        def absent(self):
            raise ImportError("cv2")

        monkeypatch.setattr("evenreel.metrics.flow.EstimatedFlow.__init__", absent)
        found = evaluated(*clips, "warp_error", "flicker")
        for figure in found.figures.values():
            assert figure.value is None
            assert "pip install 'evenreel[metrics]'" in figure.unavailable


class TestMany:
    def test_failures_are_counted_and_the_others_go_on(self, clips, tmp_path):
        pairs = [
            Pair(source=clips[0], edit=clips[1]),
            Pair(source=clips[0], edit=tmp_path / "nowhere.mp4"),
            Pair(source=clips[0], edit=clips[0]),
        ]
        steps = []
        found = list(
            Evaluator(metrics=FREE).evaluate_all(
                pairs, lambda stage, done, total: steps.append((done, total))
            )
        )
        assert [type(item) for item in found] == [Evaluation, Failure, Evaluation]
        assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
        values = json_output.many(found, ["a has no partner"])
        assert len(values["pairs"]) == 2
        assert values["failures"][0]["edit"].endswith("nowhere.mp4")
        assert "cannot be read" in values["failures"][0]["error"]
        assert values["unpaired"] == ["a has no partner"]
        assert values["means"]["source_psnr"]["pairs"] == 1  # the identical clip has none
        assert values["means"]["source_ssim"]["pairs"] == 2

    def test_a_fault_in_a_metric_costs_its_pair_only(self, clips, monkeypatch):
        """Not hours of others: a plug-in may divide by zero in one clip of a hundred."""
        add = SourcePsnr.add

        def faulty(self, window):
            if window.edit.equal(window.source):
                raise ZeroDivisionError("division by zero")
            add(self, window)

        monkeypatch.setattr(SourcePsnr, "add", faulty)
        pairs = [Pair(source=clips[0], edit=clips[i]) for i in (0, 1)]
        failed, done = Evaluator(metrics=FREE).evaluate_all(pairs)
        assert isinstance(failed, Failure)
        assert failed.error.startswith("unexpected ZeroDivisionError: division by zero")
        assert isinstance(done, Evaluation)

    def test_intervals_come_from_sources_not_from_pairs(self, clips):
        """Ten edits of one source say no more of other sources than one does."""
        one = Evaluator(metrics=FREE).evaluate(Pair(source=clips[0], edit=clips[1]))
        mean = means([one] * 10)["source_ssim"]
        assert mean.count == 1
        assert mean.low == mean.high == pytest.approx(one.figures["source_ssim"].value)
        written = json_output.many([one] * 10)["means"]["source_ssim"]
        assert (written["low"], written["high"], written["sources"]) == (None, None, 1)

    def test_no_pair_has_it(self, clips):
        one = Evaluator(metrics=("truth_psnr",)).evaluate(Pair(source=clips[0], edit=clips[1]))
        assert means([one]) == {"truth_psnr": None}


def test_json_keeps_times_out_of_the_way_of_comparison(clips):
    """Evaluations of the same files differ in nothing but when they were made."""
    one, other = (json_output.one(evaluated(*clips)) for _ in range(2))
    one.pop("made")
    other.pop("made")
    assert one == other


def test_the_packaged_judge_and_clip_are_there():
    assert (mini.FOLDER / "judge.safetensors").is_file()
    assert (mini.FOLDER / "clip" / "model.safetensors").is_file()
