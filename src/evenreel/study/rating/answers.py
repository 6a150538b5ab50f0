"""The file of answers that a page of `evenreel study form` saves and a rater sends back."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evenreel.errors import SettingsError
from evenreel.files import shown

LARGEST = 64 * 2**20
"""Bytes of a file of answers; 20 pairs take 10 kB."""
Text = Annotated[str, Field(min_length=1, max_length=500)]
Choice = Literal["left", "same", "right"]


class Choices(BaseModel):
    """What was answered to one pair, by question."""

    model_config = ConfigDict(strict=True, extra="forbid")

    coherence: Choice
    text: Choice
    quality: Choice


class Answer(BaseModel):
    """One pair, as it was seen and answered."""

    model_config = ConfigDict(strict=True, extra="forbid")

    pair: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    """What the page calls it, which says nothing of what it compares."""
    answers: Choices
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    at: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Answers(BaseModel):
    """What a rater sends back."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal["evenreel ratings 1"]
    rater: Text
    experiment: Text | None
    """The one whose pairs they are; None for all."""
    answers: list[Answer]


def read_answers(path: Path) -> Answers:
    """Read what came back. Raises: SettingsError for something else."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("too long")
        return Answers.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError) as error:
        raise SettingsError(
            f"{shown(path)} is not a file of answers that a page of `evenreel study form` saved; name another."
        ) from error
