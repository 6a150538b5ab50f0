"""Keywords of `evenreel.edit` and `evenreel.generate`, for type checkers and completion.

Written by scripts/keywords.py from the fields of settings, which alone say what there is; not to be changed by hand.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from evenreel.settings.uses import AdapterUse, ControlUse, RegionUse


class EditKeywords(TypedDict, total=False):
    """The fields of `EditSettings`, written flat."""

    prompt_glide: int
    negative_prompt: str
    guidance_scale: float | None
    guidance_interval: tuple[float, float] | None
    model: str
    vae: str | None
    clip_skip: int | None
    tokenizer: str | None
    prediction_type: Literal["epsilon", "v_prediction"] | None
    lora: Sequence[str] | None
    embedding: Sequence[str] | None
    prompt_syntax: Literal["weights", "plain"] | None
    host: str
    host_options: Mapping[str, bool | int | float | str | None]
    steps: int | None
    cache_interval: int
    seed: int
    size: int | tuple[int, int] | None
    control: str | Sequence[str] | Sequence[ControlUse] | None
    control_kind: (
        Literal["canny", "depth", "pose", "as-is"] | Sequence[Literal["canny", "depth", "pose", "as-is"]]
    )
    control_scale: float | Sequence[float]
    control_clip: str | Sequence[str | None] | None
    depth_model: str | None
    pose_model: str | None
    person_detector: str | None
    adapter: str | AdapterUse | None
    adapter_scale: float | None
    adapter_window: str | None
    adapter_parts: str | None
    adapter_frame_weight: float | None
    adapter_clip: str | None
    adapter_other_base: bool
    adapter_fused: bool
    adapter_as_published: bool
    motion: str
    motion_window: int
    device: str
    dtype: Literal["auto", "float32", "float16", "bfloat16", "mixed"]
    exact: bool
    batch: int
    preset: Literal["low-memory", "fast", "fastest"] | None
    source_prompt: str
    inversion: str
    inversion_options: Mapping[str, bool | int | float | str | None]
    inversion_steps: int | None
    reuse_source: bool
    keep: Literal["auto", "off"]
    mask: str | None
    mask_frame: int | None
    mask_model: str | None
    mask_words: str | None
    mask_words_model: str | None
    mask_words_threshold: float
    remove: bool
    region: str | Sequence[str] | Sequence[RegionUse] | None
    region_prompt: str | Sequence[str]
    strength: float
    frames: tuple[int, int | None]
    cuts: str
    cut_threshold: float
    allow_truncated: bool
    allow_damaged: bool
    fps: float | None
    sound: Literal["copy", "encode", "none"]
    sound_track: int | None


class GenerateKeywords(TypedDict, total=False):
    """The fields of `GenerateSettings`, written flat."""

    prompt_glide: int
    negative_prompt: str
    guidance_scale: float | None
    guidance_interval: tuple[float, float] | None
    model: str
    vae: str | None
    clip_skip: int | None
    tokenizer: str | None
    prediction_type: Literal["epsilon", "v_prediction"] | None
    lora: Sequence[str] | None
    embedding: Sequence[str] | None
    prompt_syntax: Literal["weights", "plain"] | None
    host: str
    host_options: Mapping[str, bool | int | float | str | None]
    steps: int
    cache_interval: int
    seed: int
    size: int | tuple[int, int] | None
    control: str | Sequence[str] | Sequence[ControlUse] | None
    control_kind: (
        Literal["canny", "depth", "pose", "as-is"] | Sequence[Literal["canny", "depth", "pose", "as-is"]]
    )
    control_scale: float | Sequence[float]
    control_clip: str | Sequence[str | None] | None
    depth_model: str | None
    pose_model: str | None
    person_detector: str | None
    adapter: str | AdapterUse | None
    adapter_scale: float | None
    adapter_window: str | None
    adapter_parts: str | None
    adapter_frame_weight: float | None
    adapter_clip: str | None
    adapter_other_base: bool
    adapter_fused: bool
    adapter_as_published: bool
    motion: str
    motion_window: int
    device: str
    dtype: Literal["auto", "float32", "float16", "bfloat16", "mixed"]
    exact: bool
    batch: int
    preset: Literal["low-memory", "fast", "fastest"] | None
    frames: int
    fps: float
