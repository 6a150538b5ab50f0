"""The tests check types and shapes of the package at run time, also where jaxtyping leaves the work to beartype."""

from dataclasses import dataclass
from typing import Any

import jaxtyping
import pytest
import torch
from beartype import beartype
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from evenreel.hosts.base import Prompts, create_host
from evenreel.hosts.injection import InjectionPlan
from evenreel.ops.nearness import nearness


def checked(decorated: Any) -> Any:
    return jaxtyping.jaxtyped(typechecker=beartype)(decorated)


def test_the_package_is_checked():
    for wrong in (
        lambda: create_host(5),  # pyright: ignore[reportArgumentType]
        lambda: InjectionPlan(attention_steps="1", feature_steps=2),  # pyright: ignore[reportArgumentType]
        lambda: nearness(torch.rand(2, 3, 4, 4)),
        lambda: nearness(torch.zeros(2, 1, 4, 4, dtype=torch.int64)),
    ):
        with pytest.raises(TypeCheckError):
            wrong()
    assert nearness(torch.rand(2, 1, 4, 4)).shape == (2, 1, 4, 4)
    assert Prompts("a", "b").edit == "b"


def test_what_comes_back_is_checked_and_shapes_are_those_of_the_arguments():
    @checked
    def text(value: object) -> str:
        return value  # pyright: ignore[reportReturnType]

    @checked
    def double(frames: Float[Tensor, "frames height"], same: bool) -> list[Float[Tensor, "frames height"]]:
        return [frames if same else frames[:1]]

    @checked
    @dataclass
    class Pair:
        one: Float[Tensor, "frames"]
        other: Float[Tensor, "frames"] | None

    assert text("a") == "a"
    assert len(double(torch.rand(2, 3), True)) == 1
    assert Pair(torch.rand(2), torch.rand(2)).one.shape == (2,)
    for wrong in (
        lambda: text(1),
        lambda: double(torch.rand(2, 3), False),
        lambda: Pair(torch.rand(2), torch.rand(3)),
    ):
        with pytest.raises(TypeCheckError):
            wrong()
