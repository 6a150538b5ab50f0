"""Models of the user's that make masks: one follows what was painted, the other finds what words say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from evenreel.backbones.segmenting import (
    Followed,
    Follower,
    FollowerFolder,
    WordsFolder,
    load_follower,
    load_words,
)
from evenreel.errors import PluginError, argument
from evenreel.files import expanded
from evenreel.ops.carrying import Carrier, Mask, Picture
from evenreel.settings import EditSettings
from evenreel.types import Frames

SIDE = 384
"""Shorter side, at most, of the pictures in which flow follows a mask, and of all masks that are kept."""
FOLDERS = {"mask_model": FollowerFolder, "mask_words_model": WordsFolder}
"""By setting: the folder that it names."""


@runtime_checkable
class Follows(Protocol):
    """What carries a mask from picture to picture."""

    def next(self, picture: Picture) -> Mask:
        """Return the mask of the next picture, at its size."""
        ...


@runtime_checkable
class Way(Protocol):
    """A way to carry masks."""

    @property
    def side(self) -> int:
        """Shorter side, at most, of the pictures that it is shown."""
        ...

    def begin(self, picture: Picture, mask: Mask) -> Follows:
        """Begin with a picture and what was painted on it."""
        ...


class ByFlow:
    """Along optical flow, without any model."""

    @property
    def side(self) -> int:
        """What is enough for flow."""
        return SIDE

    def begin(self, picture: Picture, mask: Mask) -> Follows:
        """Begin with a picture and what was painted on it."""
        return Carrier(picture, mask)


@dataclass(frozen=True)
class ByModel:
    """As a SAM 2 sees it."""

    model: Follower

    @property
    def side(self) -> int:
        """The side of the squares that it sees."""
        return self.model.side

    def begin(self, picture: Picture, mask: Mask) -> Follows:
        """Begin with a picture and what was painted on it."""
        return _Pictures(self.model.follow(as_frames(picture), torch.from_numpy(mask)))


@dataclass(frozen=True)
class _Pictures:
    followed: Followed

    def next(self, picture: Picture) -> Mask:
        return self.followed.next(as_frames(picture)).numpy()


def as_frames(picture: Picture) -> Frames:
    """Return a picture as one frame, with colours in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).movedim(-1, 0)[None].float() / 255


def check_mask_models(models: Mapping[str, str], followed: str | None) -> None:
    """Check what is to make and to follow masks, before anything is loaded.

    `models` are folders by their settings' names, `followed` is the setting that asks for a mask to be followed.
    Raises: WeightsError for a folder of another model, PluginError where flow is to follow one and OpenCV is absent.
    """
    for name, location in models.items():
        FOLDERS[name](expanded(location)).check()
    if followed is None or "mask_model" in models:
        return
    try:
        import cv2  # noqa: F401 - whether it is there
    except ImportError as error:
        raise PluginError(
            f"{argument(followed)} needs OpenCV to follow the mask; install evenreel[metrics], or give a mask of every "
            "frame."
        ) from error


def way_of(settings: EditSettings, device: torch.device | str | None) -> Way:
    """Return what carries masks, loaded. Raises: WeightsError."""
    return (
        ByFlow()
        if settings.mask_model is None
        else ByModel(load_follower(settings.mask_model, device=device))
    )


def words_model(settings: EditSettings, device: torch.device | str | None) -> Any:
    """Return the model that finds what words say, loaded. Raises: WeightsError."""
    assert settings.mask_words_model is not None, "words have a model"
    return load_words(settings.mask_words_model, device=device)


def described_models(models: Mapping[str, str]) -> dict[str, str]:
    """Return, for the record, by setting, the hash of each of these folders' models. Raises: WeightsError."""
    return {name: FOLDERS[name](expanded(location)).fingerprint for name, location in models.items()}
