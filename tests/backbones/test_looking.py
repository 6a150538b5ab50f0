"""Models that look at clips: what they say follows from their inputs as published, and what is not such a model is
refused."""

import json

import pytest
import torch

from closeness import assert_apart, assert_close
from evenreel.backbones import depth, language, poses
from evenreel.errors import WeightsError
from lookers import save_captioner, save_depth, save_detector, save_poses, save_reworder


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_depth(tmp_path_factory.mktemp("models") / "depth")


class TestDepth:
    def test_it_is_the_model_s_own_answer_at_the_size_of_the_frames(self, folder):
        """At a size that needs no resizing, with ImageNet's mean and deviation written out."""
        from transformers import DepthAnythingForDepthEstimation

        frames = noise(2, 3, 28, 42)
        theirs = DepthAnythingForDepthEstimation.from_pretrained(folder).eval()
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        seen = (frames - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
        with torch.inference_mode():
            wanted = theirs(seen).predicted_depth
        found = depth.load_depth(str(folder), device="cpu").nearness(frames)
        assert_close(found, wanted)
        assert_apart(found[:1], found[1:])

    def test_any_size_and_a_frame_by_itself(self, folder):
        model, frames = depth.load_depth(str(folder), device="cpu"), noise(3, 3, 50, 31)
        found = model.nearness(frames)
        assert found.shape == (3, 50, 31)
        assert_close(torch.cat([model.nearness(frame[None]) for frame in frames]), found)

    def test_metres_are_inverted(self, tmp_path):
        folder = save_depth(tmp_path / "metric", kind="metric")
        from transformers import DepthAnythingForDepthEstimation

        frames = torch.zeros(1, 3, 28, 28)
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        seen = ((frames - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)).expand(1, -1, -1, -1)
        with torch.inference_mode():
            metres = DepthAnythingForDepthEstimation.from_pretrained(folder).eval()(seen).predicted_depth
        assert_close(depth.load_depth(str(folder), device="cpu").nearness(frames), 1 / metres)


class TestPoses:
    def test_a_bell_s_middle_is_found_between_cells(self):
        at = torch.tensor([[7.3, 4.8], [0.0, 9.0]])  # (x, y); the second at a corner
        y, x = torch.arange(10.0)[:, None], torch.arange(12.0)
        heat = torch.stack([0.8 * torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 8) for px, py in at])[None]
        places, high = poses.peaks(heat)
        assert_close(places[0], at)
        assert high[0, 1] == pytest.approx(0.8)

    def test_a_box_as_large_as_the_frame_cuts_nothing(self):
        frame = noise(1, 3, 9, 13)
        whole = torch.tensor([0.0, 0.0, 12.0, 8.0])
        assert_close(poses.cropped(frame, whole, (9, 13)), frame)
        beyond = poses.cropped(frame, torch.tensor([-14.0, 0.0, -2.0, 8.0]), (9, 13))
        assert not beyond.any()

    def test_what_a_heat_map_shows_comes_back_at_its_place_in_the_frame(self, tmp_path):
        """A stand-in whose heat maps are the pictures that it is shown, at a quarter of their size."""
        model = poses.load_poses(str(save_poses(tmp_path / "poses")), device="cpu")
        size = model._size

        def brightness(pictures, **_):
            mean, deviation = (
                torch.tensor(v).view(3, 1, 1) for v in (poses.IMAGENET_MEAN, poses.IMAGENET_STD)
            )
            grey = (pictures * deviation + mean).mean(1, keepdim=True)
            small = torch.nn.functional.interpolate(
                grey, (size[0] // 4, size[1] // 4), mode="bilinear", align_corners=True
            )

            class Heat:
                heatmaps = small.expand(-1, 17, -1, -1)

            return Heat

        model._model = brightness
        y, x = torch.arange(120.0)[:, None], torch.arange(160.0)
        frame = torch.exp(-((x - 61) ** 2 + (y - 77) ** 2) / 800).expand(1, 3, -1, -1)
        (person,) = model.people(frame)
        assert (person - torch.tensor([61.0, 77.0])).abs().max() < 0.5

    def test_joints_in_openpose_s_order(self):
        coco = torch.arange(17.0)[None, :, None].expand(1, 17, 2).clone()
        order = poses.as_openpose(coco)[0, :, 0].tolist()
        neck = (5 + 6) / 2
        assert order == [0, neck, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
        coco[0, 5] = torch.nan
        assert poses.as_openpose(coco)[0, 1].isnan().all()  # without a shoulder there is no neck

    def test_the_detector_says_how_many_there_are(self, tmp_path):
        folder, frame = str(save_poses(tmp_path / "poses")), noise(1, 3, 40, 60)
        everywhere = str(save_detector(tmp_path / "many"))
        nowhere = str(save_detector(tmp_path / "none", sure=-9))
        assert len(poses.load_poses(folder, device="cpu").people(frame)) == 1
        assert len(poses.load_poses(folder, everywhere, device="cpu").people(frame)) == 5
        assert poses.load_poses(folder, nowhere, device="cpu").people(frame).shape == (0, 18, 2)
        boxes = poses.load_poses(folder, everywhere, device="cpu")._detector.boxes(frame)
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([60, 40, 60, 40])).all()

    def test_what_cannot_tell_a_person_is_refused(self, tmp_path):
        joints, dogs = (
            save_poses(tmp_path / "hands", joints=21),
            save_detector(tmp_path / "dogs", names=("dog",)),
        )
        with pytest.raises(WeightsError, match="knows 21 joints, not COCO's 17"):
            poses.load_poses(str(joints))
        with pytest.raises(WeightsError, match="knows nothing called a person"):
            poses.load_poses(str(save_poses(tmp_path / "poses")), str(dogs))


class TestLanguage:
    def test_the_same_of_the_same(self, tmp_path):
        folder, frame = str(save_captioner(tmp_path / "blip")), noise(1, 3, 40, 60)
        one, other = (language.load_captioner(folder, device="cpu") for _ in range(2))
        assert one.caption(frame) == other.caption(frame) != ""
        assert one.fingerprint == other.fingerprint
        folder = str(save_reworder(tmp_path / "llama"))
        asked = [language.load_reworder(folder, device="cpu").reworded("a man walks", 2) for _ in range(2)]
        assert asked[0] == asked[1]

    def test_settings_of_the_folder_that_draw_at_random_do_not_count(self, tmp_path):
        folder = save_reworder(tmp_path / "llama")
        plain = language.load_reworder(str(folder), device="cpu").reworded("a man walks", 2)
        file = folder / "generation_config.json"
        drawn = {**json.loads(file.read_text()), "do_sample": True, "temperature": 9.0, "num_beams": 3}
        file.write_text(json.dumps(drawn))
        assert language.load_reworder(str(folder), device="cpu").reworded("a man walks", 2) == plain

    def test_the_words_count_as_much_as_the_weights(self, tmp_path):
        folder = save_reworder(tmp_path / "llama")
        before = language.CausalFolder(folder).fingerprint
        (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
        assert language.CausalFolder(folder).fingerprint != before

    def test_lists_are_taken_apart(self):
        answer = (
            "1. A man strolls.\n\n - 'A guy walks'\n* A man goes \u201cfast\u201d\n12) Walking.\n3 men walk\n"
        )
        assert language.lines(answer) == [
            "A man strolls.", "A guy walks", "A man goes \u201cfast", "Walking.", "3 men walk",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("save", "load", "wanted"),
    [
        (save_depth, depth.load_depth, "a Depth Anything"),
        (save_poses, poses.load_poses, "a ViTPose"),
        (save_captioner, language.load_captioner, "a BLIP"),
        (save_reworder, language.load_reworder, "a causal language model"),
    ],
)
def test_what_is_not_such_a_model_is_one_sentence(tmp_path, save, load, wanted):
    with pytest.raises(WeightsError, match=f"is not a folder; give {wanted}"):
        load(str(tmp_path / "nothing"))
    folder = save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    for fault in ({"architectures": ["ViTModel"]}, {"auto_map": {"AutoModel": "code.py"}}):
        (folder / "config.json").write_text(json.dumps(config | fault))
        with pytest.raises(WeightsError, match=wanted):
            load(str(folder))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pickle"):
        load(str(folder))
