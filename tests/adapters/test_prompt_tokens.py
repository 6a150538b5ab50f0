import pytest
import torch

from closeness import assert_close
from evenreel.adapters.prompt_tokens import PromptTokens, prepended, selected
from evenreel.adapters.settings import PromptTokenSettings
from evenreel.errors import SettingsError, WeightsError
from evenreel.settings import read


def made(seed=0, width=6, vision_width=5, **settings):
    generator = torch.Generator().manual_seed(seed)
    return PromptTokens(PromptTokenSettings(**settings), width, vision_width, generator)


def test_tokens_stand_in_front_of_the_text():
    module, hidden, text = made(shared=3), torch.randn(2, 10, 5), torch.randn(2, 7, 6)
    whole = module.before(text, hidden)
    assert whole.shape == (2, 3 + 5 + 7, 6)
    assert torch.equal(whole[:, -7:], text)
    assert torch.equal(whole[0, :3], whole[1, :3])
    assert not torch.equal(whole[0, 3:8], whole[1, 3:8])


def test_without_frames_only_shared_tokens_are_left():
    module = made(shared=3)
    assert torch.equal(module(None, 4), module.shared.expand(4, -1, -1))
    assert module.before(torch.randn(4, 7, 6)).shape == (4, 10, 6)
    alone = made(shared=3, select="none")
    assert alone.projection is None
    assert torch.equal(alone(torch.randn(2, 10, 5)), alone.shared.expand(2, -1, -1))
    assert made(shared=0)(torch.randn(2, 10, 5)).shape == (2, 5, 6)


def test_the_weight_of_a_frames_own_tokens():
    hidden = torch.randn(2, 10, 5)
    plain, boosted = (made(shared=3, weight=weight)(hidden) for weight in (1.0, 2.5))
    assert torch.equal(plain[:, :3], boosted[:, :3])
    assert_close(2.5 * plain[:, 3:], boosted[:, 3:])


@pytest.mark.parametrize(
    ("patches", "averaged", "strided"), [(50, 25, 26), (49, 25, 25), (1, 1, 1), (2, 1, 2)]
)
def test_selection(patches, averaged, strided):
    hidden = torch.randn(2, patches, 5)
    means, every_other = selected(hidden, "average"), selected(hidden, "stride")
    assert means.shape[1] == averaged
    assert every_other.shape[1] == strided
    if patches > 1:
        assert_close(means[:, 0], hidden[:, :2].mean(1))
    if patches % 2:
        assert torch.equal(means[:, -1], hidden[:, -1])


def test_the_start_follows_from_the_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, same, other = (
        made(1, width=400, shared=50),
        made(1, width=400, shared=50),
        made(2, width=400, shared=50),
    )
    assert torch.equal(torch.rand(1), expected)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
        assert name.endswith("bias") or not torch.equal(tensor, other.state_dict()[name])
    assert one.shared.std().item() == pytest.approx(0.02, rel=0.05)
    assert not one.projection.bias.any()


def test_prompts_in_another_number_type():
    text = torch.randn(2, 7, 6, dtype=torch.bfloat16)
    assert prepended(torch.randn(2, 3, 6), text).dtype is torch.bfloat16
    assert made()(torch.randn(2, 10, 5, dtype=torch.float16)).dtype is torch.float32


def test_weights_go_there_and_back():
    one, other = made(1), made(2)
    other.load(one.state_dict())
    assert all(torch.equal(one.state_dict()[name], tensor) for name, tensor in other.state_dict().items())
    tensors = one.state_dict()
    for damaged, words in (
        ({**tensors, "more": tensors["shared"]}, "do not fit their settings"),
        ({**tensors, "shared": tensors["shared"][:2]}, r"shared must be of size \(8, 6\), got \(2, 6\)"),
    ):
        with pytest.raises(WeightsError, match=words):
            other.load(damaged)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shared": -1}, "shared must be from 0 to 1024, got -1"),
        ({"select": "all"}, "select must be one of average, stride, none, got 'all'"),
        ({"weight": float("nan")}, "weight must be at least 0, got nan"),
        ({"shared": 0, "select": "none"}, "prompt tokens need some that are shared"),
    ],
)
def test_settings_check_themselves(settings, words):
    with pytest.raises(SettingsError, match=words):
        read(PromptTokenSettings, settings, "prompt tokens")
