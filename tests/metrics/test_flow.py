"""Flow from files and by estimation, and what is visible without a backward flow."""

import struct

import numpy as np
import pytest
import torch

from evenreel.errors import ClipError
from evenreel.metrics.flow import EstimatedFlow, FlowFiles, KnownFlow, read_flow
from evenreel.metrics.temporal import WarpError
from evenreel.ops.warp import carried_back, visible_by_depth, visible_by_return
from evenreel.world import HELD_OUT, Camera, Motion, Scene, SceneObject, random_scene, render
from metrics.measuring import figure, value


def write_flo(path, flow):
    """As the Middlebury benchmark has it: tag, width, height, then x and y of each pixel by rows."""
    _, height, width = flow.shape
    values = flow.permute(1, 2, 0).contiguous().numpy().astype("<f4")
    path.write_bytes(b"PIEH" + struct.pack("<ii", width, height) + values.tobytes())


@pytest.fixture(scope="module")
def clip():
    return render(random_scene(HELD_OUT + 3, objects=1), range(6), (48, 64))


@pytest.fixture(params=["flo", "npy, channels first", "npy, channels last"])
def folder(request, clip, tmp_path):
    for index, field in enumerate(clip.flow[:-1]):
        name = tmp_path / f"flow{index + 8}"  # flow8, flow9, flow10: sorted by number, not by letter
        if request.param == "flo":
            write_flo(name.with_suffix(".flo"), field)
        else:
            values = field if request.param.endswith("first") else field.permute(1, 2, 0)
            np.save(name.with_suffix(".npy"), values.numpy())
    return tmp_path


class TestFiles:
    def test_they_are_read_in_order(self, folder, clip):
        files = FlowFiles(folder)
        flow, _ = files.between(clip.frames, 0)
        assert torch.equal(flow, clip.flow[:-1])
        flow, _ = files.between(clip.frames[2:5], 2)
        assert torch.equal(flow, clip.flow[2:4])
        assert files.name.endswith("forward only")

    def test_windows_change_nothing(self, folder, clip):
        values = [
            value(WarpError, clip.frames, clip.frames, flow=FlowFiles(folder), length=n) for n in (1, 2, 4, 6)
        ]
        assert values == pytest.approx([values[0]] * 4, rel=1e-6)

    def test_backward_flow_is_used(self, folder, clip):
        (folder / "backward").mkdir()
        for index in range(5):
            np.save(folder / "backward" / f"{index}.npy", np.full((2, 48, 64), 50.0, np.float32))
        files = FlowFiles(folder)
        assert files.name.endswith("forward and backward")
        assert not files.between(clip.frames, 0)[1].any()
        found = figure(WarpError, clip.frames, clip.frames, flow=files)
        assert found.unavailable == "no place of the source stays in view from one frame to the next"

    def test_a_part_of_the_source(self, folder, clip):
        """Frames 2 to 5 were edited: flow of the whole source is cut, flow of as many frames is not."""
        flow, _ = FlowFiles(folder, start=2, count=3).between(clip.frames[2:5], 0)
        assert torch.equal(flow, clip.flow[2:4])
        flow, _ = FlowFiles(folder, start=2, count=6).between(clip.frames, 0)
        assert torch.equal(flow, clip.flow[:-1])

    def test_a_part_that_may_be_the_whole_is_not_guessed(self, folder):
        """Five files and frames 1 to 6: of six frames' five pairs, or of five frames with one more? A pair apart."""
        with pytest.raises(ClipError, match="may be those of the whole source or of the 5 frames"):
            FlowFiles(folder, start=1, count=5)
        assert FlowFiles(folder, start=0, count=5).offset == FlowFiles(folder, start=2, count=5).offset == 0
        assert FlowFiles(folder, start=1, count=4).offset == 1

    def test_too_few(self, folder, clip):
        with pytest.raises(ClipError, match="holds 5 files of flow and the source has at least 12 frames"):
            FlowFiles(folder).between(torch.cat([clip.frames, clip.frames]), 0)

    def test_another_size(self, folder):
        with pytest.raises(ClipError, match="is flow of 64 x 48 pixels and the source has 32 x 32"):
            FlowFiles(folder).between(torch.rand(2, 3, 32, 32), 0)

    def test_no_folder_and_no_flow(self, tmp_path):
        with pytest.raises(ClipError, match="cannot be listed"):
            FlowFiles(tmp_path / "nowhere")
        with pytest.raises(ClipError, match="holds no flow"):
            FlowFiles(tmp_path)

    @pytest.mark.parametrize(
        ("name", "data", "words"),
        [
            ("a.flo", b"", "cut short"),
            ("a.flo", b"PIEH" + struct.pack("<ii", 4, 4) + bytes(8), "has 20 bytes and should have 140"),
            ("a.flo", b"XXXX" + struct.pack("<ii", 1, 1) + bytes(8), "does not start like"),
            ("a.npy", b"no numpy", "no flow that can be read"),
        ],
    )
    def test_damaged_files(self, name, data, words, tmp_path):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ClipError, match=words):
            read_flow(tmp_path / name)

    def test_pickles_are_refused(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([{"x": 1}]), allow_pickle=True)
        with pytest.raises(ClipError, match="allow_pickle"):
            read_flow(tmp_path / "a.npy")

    @pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4), (1, 2, 4, 4)])
    def test_other_shapes(self, shape, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
        with pytest.raises(ClipError, match="has the shape"):
            read_flow(tmp_path / "a.npy")

    def test_nan(self, tmp_path):
        np.save(tmp_path / "a.npy", np.full((2, 4, 4), np.nan))
        with pytest.raises(ClipError, match="NaN"):
            read_flow(tmp_path / "a.npy")


def slow_carried_back(flow):
    _, height, width = flow.shape
    total = np.zeros((2, height, width))
    arrived = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            gx, gy = x + float(flow[0, y, x]), y + float(flow[1, y, x])
            left, top = int(np.floor(gx)), int(np.floor(gy))
            for column in (left, left + 1):
                for row in (top, top + 1):
                    if 0 <= column < width and 0 <= row < height:
                        share = (1 - abs(gx - column)) * (1 - abs(gy - row))
                        total[:, row, column] -= share * flow[:, y, x].numpy()
                        arrived[row, column] += share
    return np.divide(total, arrived, out=np.zeros_like(total), where=arrived > 0)


def test_flow_is_carried_back_like_a_loop():
    flow = 4 * torch.randn(2, 2, 9, 11, generator=torch.Generator().manual_seed(0))
    expected = np.stack([slow_carried_back(field) for field in flow])
    assert carried_back(flow).numpy() == pytest.approx(expected, abs=1e-4)


def test_a_shift_is_visible_from_forward_flow_alone():
    flow = torch.zeros(1, 2, 8, 12)
    flow[:, 0] = 3.0
    seen = visible_by_return(flow, carried_back(flow))[0, 0]
    assert seen[:, :9].all()
    assert not seen[:, 9:].any()


def test_what_is_covered_is_not_visible_from_forward_flow_alone():
    """An object that moves over a still background: where both land neither counts, elsewhere all does."""
    flow = torch.zeros(1, 2, 16, 32)
    flow[:, 0, 4:12, 4:12] = 6.0
    seen = visible_by_return(flow, carried_back(flow))[0, 0]
    assert not seen[5:11, 13:17].any()  # the background that the object covers
    assert seen[:, 20:].all()
    assert seen[5:11, 4:5].all()  # the object's rear, which lands where nothing else does


class TestEstimated:
    @pytest.fixture(autouse=True)
    def _opencv(self):
        pytest.importorskip("cv2")

    def test_it_is_near_the_exact_flow(self):
        thing = SceneObject(
            shape="star",
            colour="red",
            texture="checkered",
            radius=0.6,
            motion=Motion(kind="sliding", velocity=(0.04, 0.02)),
        )
        scene = Scene(background="bricks", objects=(thing,), camera=Camera(velocity=(0.02, 0.0)))
        clip = render(scene, range(4), 128)
        exact = clip.flow[:-1]
        flow, visible = EstimatedFlow().between(clip.frames, 0)
        off = (flow - exact).norm(dim=1, keepdim=True)
        true = visible_by_depth(clip.depth, exact)
        assert off[true & visible].median() < 0.5 * exact.norm(dim=1, keepdim=True)[true].median()
        assert 0.5 < visible.float().mean() < 1

    def test_frames_that_do_not_move_do_not(self):
        frames = render(random_scene(HELD_OUT), range(1), 64, maps=False).frames.expand(3, -1, -1, -1)
        flow, visible = EstimatedFlow().between(frames, 0)
        assert flow.abs().max() < 0.1
        assert visible.all()

    def test_grey_is_made_of_red_green_and_blue_in_this_order(self):
        """BT.601: red counts for 0.299 and blue for 0.114; BGR read as RGB would swap them."""
        red = torch.zeros(3, 8, 8)
        red[0] = 1
        assert EstimatedFlow()._grey(red)[0, 0] == 76

    @pytest.mark.parametrize(("height", "width"), [(4, 4), (1, 1), (8, 200), (17, 12)])
    def test_small_frames(self, height, width):
        generator = torch.Generator().manual_seed(0)
        found = figure(
            WarpError, *torch.rand(2, 3, 3, height, width, generator=generator), flow=EstimatedFlow()
        )
        assert found.value is not None or found.unavailable


def test_known_flow_is_cut_as_windows_are(clip):
    known = KnownFlow(clip.flow[:-1], visible_by_depth(clip.depth, clip.flow[:-1]))
    values = [value(WarpError, clip.frames, clip.frames, flow=known, length=n) for n in (1, 3, 6)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-6)
