"""People as sticks, and depth as grey: what ControlNets are shown."""

import torch

from evenreel.ops.nearness import nearness
from evenreel.ops.skeleton import DIMMED, KEYPOINTS, LIMBS, colour_of, skeleton


def person(shift: float = 0.0) -> torch.Tensor:
    """Someone with all keypoints, far from each other."""
    return torch.rand(1, 1, 18, 2, generator=torch.Generator().manual_seed(3)) * 100 + 10 + shift


def bytes_of(colour, share=1.0) -> list[int]:
    return [round(255 * share * part) for part in colour]


def test_joints_have_their_colours_and_limbs_dimmer_ones():
    points = person()
    picture = skeleton(points, (128, 128))[0]
    for number, (x, y) in enumerate(points[0, 0].long().tolist()):
        seen = picture[:, y, x].tolist()
        assert seen in [bytes_of(colour_of(other)) for other in range(number, len(KEYPOINTS))]
    one = torch.full((1, 1, 18, 2), torch.nan)
    one[0, 0, 3], one[0, 0, 4] = torch.tensor([20.5, 40.5]), torch.tensor([90.5, 40.5])
    picture = skeleton(one, (128, 128))[0]
    assert picture[:, 40, 55].tolist() == bytes_of(colour_of(LIMBS.index((3, 4))), DIMMED)
    assert picture[:, 40, 20].tolist() == bytes_of(colour_of(3))
    painted = picture.sum(0) > 0
    assert painted[:38].sum() == painted[43:].sum() == 0, "a stick is a few pixels wide"


def test_who_moves_takes_the_drawing_along():
    still, moved = (skeleton(person(shift), (128, 128))[0] for shift in (0.0, 5.0))
    assert torch.equal(moved[:, 5:, 5:], still[:, :-5, :-5])


def test_nobody_is_black_and_people_are_drawn_each():
    nobody = torch.full((2, 3, 14, 2), torch.nan)
    assert skeleton(nobody, (64, 96)).shape == (2, 3, 64, 96)
    assert not skeleton(nobody, (64, 96)).any()
    nobody[1, 2] = person()[0, 0, :14] / 2
    drawn = skeleton(nobody, (64, 96))
    assert not drawn[0].any()
    assert torch.equal(drawn[1], skeleton(nobody[1:, 2:], (64, 96))[0])


def test_near_is_white_and_far_is_black_in_any_unit():
    depth = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    shown = nearness(depth)
    assert shown.amin((1, 2, 3)).tolist() == [0.0] * 3
    assert shown.amax((1, 2, 3)).tolist() == [1.0] * 3
    assert torch.equal(shown.flatten(1).argmax(1), depth.flatten(1).argmin(1))
    assert torch.allclose(nearness(7 * depth + 2), shown, rtol=0, atol=1e-12)
    assert not nearness(torch.ones(1, 1, 4, 4)).any()
