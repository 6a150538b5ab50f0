"""Masks by models that the user has: what they say is what transformers' own code says, and memory does not grow."""

import json

import pytest
import torch
from torch.nn.functional import interpolate

from closeness import assert_apart, assert_close
from evenreel.backbones import segmenting
from evenreel.errors import SettingsError, WeightsError
from lookers import save_depth, save_follower, save_words_model

MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def normal(frames: torch.Tensor) -> torch.Tensor:
    return (frames - MEAN.view(3, 1, 1)) / DEVIATION.view(3, 1, 1)


@pytest.fixture(scope="module")
def follower_folder(tmp_path_factory):
    return save_follower(tmp_path_factory.mktemp("models") / "sam2")


@pytest.fixture(scope="module")
def words_folder(tmp_path_factory):
    return save_words_model(tmp_path_factory.mktemp("models") / "clipseg")


class TestFollower:
    def test_it_is_what_transformers_says_with_the_whole_clip_in_memory(self, follower_folder):
        """Frames as large as the model sees, so that nothing is resized on the way in."""
        from transformers import Sam2VideoModel
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        frames, painted = noise(24, 3, 64, 64), torch.zeros(64, 64, dtype=torch.bool)
        painted[10:40, 20:50] = True
        theirs = Sam2VideoModel.from_pretrained(follower_folder).eval()
        session = Sam2VideoInferenceSession(normal(frames), 64, 64, dtype=torch.float32)
        session.add_mask_inputs(session.obj_id_to_idx(1), 0, painted[None, None].float())
        session.obj_with_new_inputs = [1]
        with torch.inference_mode():
            scores = [
                out.pred_masks for out in theirs.propagate_in_video_iterator(session, start_frame_idx=0)
            ]
        wanted = [interpolate(one, (64, 64), mode="bilinear")[0, 0] > 0 for one in scores[1:]]
        followed = segmenting.load_follower(str(follower_folder), device="cpu").follow(frames[:1], painted)
        found = [followed.next(frame[None]) for frame in frames[1:]]
        assert len(found) == 23
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
        assert 0 < sum(float(mask.float().mean()) for mask in found) < 23  # neither nothing nor all

    def test_any_size_and_what_was_painted_counts(self, follower_folder):
        model, frames = segmenting.load_follower(str(follower_folder), device="cpu"), noise(3, 3, 40, 70)
        found = []
        for part in (slice(0, 20), slice(20, 40)):
            painted = torch.zeros(40, 70, dtype=torch.bool)
            painted[part] = True
            followed = model.follow(frames[:1], painted)
            found.append(torch.stack([followed.next(frame[None]) for frame in frames[1:]]))
        assert found[0].shape == (2, 40, 70)
        assert not torch.equal(*found)

    def test_what_it_remembers_does_not_grow_with_the_clip(self, follower_folder):
        model, frames = segmenting.load_follower(str(follower_folder), device="cpu"), noise(1, 3, 64, 64)
        painted = frames[0, 0] > 0.5
        followed = model.follow(frames, painted)
        sizes = []
        for number in range(1, 41):
            followed.next(frames)
            if number in (20, 40):
                session = followed._session
                kept = [*session.output_dict_per_obj[0].values()]
                tensors = [v for part in kept for out in part.values() for v in out.values()]
                held = sum(one.numel() for one in tensors)
                counts = [len(session.processed_frames), len(session.frames_tracked_per_obj[0])]
                sizes.append((held, len(tensors), *counts))
        assert sizes[0] == sizes[1]

    def test_other_folders_are_refused(self, tmp_path, follower_folder):
        with pytest.raises(
            WeightsError, match=r"must be a SAM 2 for clips \(sam2_video\), got depth_anything"
        ):
            segmenting.load_follower(str(save_depth(tmp_path / "depth")), device="cpu")
        with pytest.raises(WeightsError, match="is not a folder; give a SAM 2"):
            segmenting.load_follower(str(tmp_path / "nowhere"), device="cpu")
        broken = save_follower(tmp_path / "broken")
        values = json.loads((broken / "config.json").read_text())
        values["vision_config"]["backbone_config"]["blocks_per_stage"] = [1, 2, 2, 2]
        (broken / "config.json").write_text(json.dumps(values))
        with pytest.raises(WeightsError, match="weights are missing or of the wrong size"):
            segmenting.load_follower(str(broken), device="cpu")
        values["vision_config"]["backbone_config"]["embed_dim_per_stage"] = [8000, 16000, 32000, 64000]
        (broken / "config.json").write_text(json.dumps(values))
        with pytest.raises(WeightsError, match="its configuration describes"):
            segmenting.load_follower(str(broken), device="cpu")


class TestWords:
    def test_it_is_the_model_s_own_answer_at_the_size_of_the_frames(self, words_folder):
        """At the size that it sees, with ImageNet's mean and deviation written out."""
        from transformers import AutoTokenizer, CLIPSegForImageSegmentation

        frames, words = noise(2, 3, 352, 352), "a red circle"
        told = AutoTokenizer.from_pretrained(words_folder)([words] * 2, return_tensors="pt")
        theirs = CLIPSegForImageSegmentation.from_pretrained(words_folder).eval()
        with torch.inference_mode():
            wanted = theirs(pixel_values=normal(frames), **told).logits.sigmoid()
        model = segmenting.load_words(str(words_folder), device="cpu")
        assert_close(model.likeness(frames, words), wanted)
        assert_apart(model.likeness(frames[:1], "snow"), wanted[:1])

    def test_any_size_and_a_frame_by_itself(self, words_folder):
        model, frames = segmenting.load_words(str(words_folder), device="cpu"), noise(3, 3, 50, 31)
        found = model.likeness(frames, "a dog")
        assert found.shape == (3, 50, 31)
        assert 0 <= float(found.min()) < float(found.max()) <= 1
        assert_close(torch.cat([model.likeness(frame[None], "a dog") for frame in frames]), found)

    def test_too_many_words_and_other_folders_are_refused(self, words_folder, follower_folder):
        model = segmenting.load_words(str(words_folder), device="cpu")
        with pytest.raises(SettingsError, match=r"mask_words is \d+ tokens long, and the model reads 77"):
            model.likeness(noise(1, 3, 32, 32), "dog " * 90)
        with pytest.raises(
            WeightsError, match="must be a plain CLIPSegForImageSegmentation, got Sam2VideoModel"
        ):
            segmenting.load_words(str(follower_folder), device="cpu")
