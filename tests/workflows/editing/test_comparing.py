"""What the comparison of two prompts says: where they differ, and whether by another shape."""

import pytest
import torch

import evenreel
from evenreel import edit_file
from evenreel.backbones.base import QuickEdit
from evenreel.cli.edit import print_result
from evenreel.hosts.base import create_host
from evenreel.hosts.frame import RESHAPING, USUAL
from evenreel.ops.prompt_changes import is_another_thing
from evenreel.progress import silent
from evenreel.video import load
from evenreel.workflows.editing.computing import differences, keeping
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.records.resource_use import Stopwatch
from evenreel.workflows.editing.regions import region
from evenreel.workflows.world import demo
from evenreel.workflows.world.edits import WorldEdit
from evenreel.world import caption


class TestConcerned:
    """What differences mean, on made ones: frames, rows and columns of cells."""

    @pytest.mark.parametrize("frames", [1, 2, 4])
    def test_a_part(self, frames):
        difference = torch.full((frames, 12, 12), differences.ALL / 4)
        difference[:, 4:8, 4:8] = 10 * differences.SMALLEST
        cells = differences.concerned(difference)
        assert cells[:, 3:9, 3:9].all()
        assert not cells[:, :2].any()
        assert not cells[:, :, 10:].any()

    def test_all(self):
        assert differences.concerned(torch.full((4, 12, 12), 2 * differences.ALL)) is None

    def test_a_part_that_changes_slightly(self):
        difference = torch.full((3, 12, 12), differences.LEAST / 4)
        difference[:, 3:9, 3:9] = 1.5 * differences.LEAST
        assert differences.busiest(difference) * differences.SLIGHT < differences.LEAST < differences.SMALLEST
        cells = differences.concerned(difference)
        assert cells[:, 3:9, 3:9].all()
        assert not cells[:, :1].any()

    def test_no_place(self):
        assert differences.concerned(torch.full((4, 12, 12), differences.ALL / 4)) is None

    def test_what_moves_is_covered_in_the_frames_beside_it(self):
        difference = torch.zeros(5, 12, 12)
        difference[2, 4:8, 4:8] = 10
        cells = differences.concerned(difference)
        assert cells[:, 5, 5].tolist() == [True] * 5  # averaged over one frame, and grown by one
        assert torch.equal(cells, cells.flip(0))


class TestAgreement:
    """How alike the cells change that change most."""

    def changing(self, cells):
        found = 0.01 * torch.randn(4, 4, 12, 12, generator=torch.Generator().manual_seed(0))
        found[..., 4:8, 4:8] = cells
        return found

    def test_all_by_the_same(self):
        same = torch.tensor([1.0, -2.0, 0.5, 0.0])[:, None, None].expand(4, 4, 4)
        assert differences.agreement(self.changing(same)) == pytest.approx(1.0)

    def test_what_some_gain_others_lose(self):
        one = torch.tensor([1.0, -2.0, 0.5, 0.0])[:, None, None].expand(4, 4, 2)
        assert differences.agreement(self.changing(torch.cat([one, -one], -1))) < 1e-12

    def test_a_half_to_one_side(self):
        """One half by one vector, and one by another as long, at a right angle: their mean is half as long, squared."""
        one, other = torch.zeros(2, 4, 4, 2)
        one[0], other[1] = 1.0, 1.0
        assert differences.agreement(self.changing(torch.cat([one, other], -1))) == pytest.approx(0.5)

    def test_nothing_that_changes_agrees(self):
        assert differences.agreement(torch.zeros(4, 4, 12, 12)) == 1.0


class TestCompared:
    """Changes that are asked for together: one of a part, and one of all places that may hide beside it."""

    def found(self, monkeypatch, backbone, settings, hidden, prompt="a blue ball on clouds", agreement=1.0):
        """What is found where the ball differs by a lot and, asked for alone, clouds from snow by `hidden`."""
        asked = []

        def difference(pipeline, latents, prompt):
            asked.append(prompt)
            if "ball on clouds" in prompt and "blue" not in prompt:
                return keeping.Compared(torch.full((len(latents), 12, 12), hidden), agreement)
            found = torch.full((len(latents), 12, 12), 1.5 * differences.DOUBT)
            found[:, 4:8, 4:8] = 10 * differences.SMALLEST
            return keeping.Compared(found, agreement)

        monkeypatch.setattr(keeping, "prompt_difference", difference)
        told = settings(source_prompt="an orange ball on snow", prompt=prompt)
        host = create_host(told.host, told.host_options)
        pipeline = Pipeline(backbone, host, told, silent, Stopwatch(backbone.device))
        return keeping.compared(pipeline, torch.zeros(2, 4, 12, 12)), asked

    def test_a_change_of_all_places_beside_a_strong_one(self, monkeypatch, backbone, settings):
        meant, asked = self.found(monkeypatch, backbone, settings, 2 * differences.ALL)
        assert meant.cells is None
        assert asked == ["a blue ball on clouds", "a blue ball on snow", "an orange ball on clouds"]

    def test_two_changes_of_a_part(self, monkeypatch, backbone, settings):
        meant, _ = self.found(monkeypatch, backbone, settings, differences.ALL / 2, agreement=0.0)
        assert 0 < meant.cells.float().mean() < 1
        assert not meant.reshapes

    def test_a_single_change_is_compared_once(self, monkeypatch, backbone, settings):
        meant, asked = self.found(monkeypatch, backbone, settings, 1.0, "an orange ball on sand")
        assert meant.cells is not None
        assert len(asked) == 1

    @pytest.mark.parametrize(("agreement", "reshapes"), [(0.9, False), (0.5, False), (0.02, True)])
    def test_what_hardly_agrees_is_another_shape(self, monkeypatch, backbone, settings, agreement, reshapes):
        prompt = "an orange cube on snow"
        meant, _ = self.found(monkeypatch, backbone, settings, 1.0, prompt, agreement)
        assert meant.reshapes == reshapes

    def test_what_describes_the_same_thing_asks_for_no_other_shape(self, monkeypatch, backbone, settings):
        meant, _ = self.found(monkeypatch, backbone, settings, 1.0, "a dotted ball on snow", 0.02)
        assert meant.cells is not None
        assert not meant.reshapes


class TestAnotherShape:
    """Where another shape alone is asked for, of a model of which it was measured, less comes from the source."""

    CELLS = torch.ones(7, 8, 12, dtype=torch.bool)

    def edited(self, monkeypatch, settings, backbone, clip, *, reshapes=True, measured=True, **told):
        quick = QuickEdit(steps=8, guidance_interval=(0.0, 1.0)) if measured else None
        monkeypatch.setattr(Pipeline, "measured", quick)
        monkeypatch.setattr(keeping, "compared", lambda *_: keeping.Meant(self.CELLS, reshapes))
        return evenreel.edit(clip, settings(steps=8, **told), backbone=backbone).frames

    def test_less_comes_from_the_source(self, monkeypatch, settings, backbone, clip_with_sound):
        clip = load(clip_with_sound)
        told = {"host_options": RESHAPING._asdict()}
        less = self.edited(monkeypatch, settings, backbone, clip)
        assert torch.equal(less, self.edited(monkeypatch, settings, backbone, clip, reshapes=False, **told))
        usual = self.edited(monkeypatch, settings, backbone, clip, reshapes=False)
        assert not torch.equal(less, usual)
        assert torch.equal(usual, self.edited(monkeypatch, settings, backbone, clip, measured=False))
        told = {"host_options": USUAL._asdict()}
        assert torch.equal(usual, self.edited(monkeypatch, settings, backbone, clip, **told))

    @pytest.mark.parametrize(
        ("reshapes", "told", "said"),
        [(True, {}, True), (False, {}, False), (True, {"host_options": USUAL._asdict()}, False)],
    )
    def test_the_command_line_says_so(
        self, monkeypatch, settings, backbone, clip_with_sound, tmp_path, capsys, reshapes, told, said
    ):
        monkeypatch.setattr(Pipeline, "measured", QuickEdit(steps=1, guidance_interval=(0.0, 1.0)))
        monkeypatch.setattr(keeping, "compared", lambda *_: keeping.Meant(self.CELLS, reshapes))
        result = edit_file(clip_with_sound, tmp_path / "out.mp4", settings(**told), backbone=backbone)
        assert result.record["another_shape"] == reshapes
        print_result(result)
        assert ("so less is taken from the source" in capsys.readouterr().err) == said

    def test_the_demo_changes_several_things(self):
        edit = WorldEdit(demo.SCENE, demo.CHANGES, 2)
        assert not is_another_thing(caption(edit.scene), caption(edit.target))

    def test_each_scene_by_itself(self):
        scenes = slice(0, 3), slice(3, 7)
        where = region.Region(self.CELLS, 5, reshaped=scenes[1:])
        assert [where.part(scene).reshaped for scene in scenes] == [(), (slice(0, 4),)]
