"""What configurations of models may say, as schemas: whatever else they say is one sentence, before a library reads it.

Names, defaults and meanings are those of diffusers 0.42 and transformers 5. Fields that are not listed pass unread.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evenreel.errors import WeightsError

Count = Annotated[int, Field(ge=1, le=64)]
"""Layers, blocks, heads of small things."""
Width = Annotated[int, Field(ge=1, le=16384)]
"""Channels and features."""
Side = Annotated[int, Field(ge=1, le=4096)]
"""Pixels, or cells of latents."""
Token = Annotated[int, Field(ge=0, lt=2**20)]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Small = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Levels = Annotated[list[Width], Field(min_length=1, max_length=8)]
Heads = Annotated[int, Field(ge=1, le=1024)]
DownBlock = Literal["DownBlock2D", "CrossAttnDownBlock2D", "AttnDownBlock2D"]
UpBlock = Literal["UpBlock2D", "CrossAttnUpBlock2D", "AttnUpBlock2D"]
_ATTENDED: list[DownBlock] = ["CrossAttnDownBlock2D"] * 3
_DOWN: list[DownBlock] = [*_ATTENDED, "DownBlock2D"]
_UP: list[UpBlock] = ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]


class Schema(BaseModel):
    """Base of all: types are exact, and `null` stands only where it is allowed."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)


class DenoiserSchema(Schema):
    """What a UNet and a ControlNet have in common."""

    in_channels: Width = 4
    block_out_channels: Levels = [320, 640, 1280, 1280]
    down_block_types: Annotated[list[DownBlock], Field(min_length=1, max_length=8)] = _DOWN
    layers_per_block: Count | list[Count] = 2
    attention_head_dim: Heads | list[Heads] = 8
    num_attention_heads: Heads | list[Heads] | None = None
    cross_attention_dim: Width | list[Width] = 1280
    transformer_layers_per_block: Count | list[Any] = 1
    norm_num_groups: Width | None = 32
    norm_eps: Small = 1e-5
    use_linear_projection: bool = False
    upcast_attention: bool = False
    only_cross_attention: bool | list[bool] = False
    addition_embed_type: str | None = None
    addition_time_embed_dim: Width | None = None
    projection_class_embeddings_input_dim: Width | None = None

    @model_validator(mode="after")
    def _fits(self) -> "DenoiserSchema":
        levels = len(self.block_out_channels)
        for name in ("down_block_types", "up_block_types", "layers_per_block", "attention_head_dim"):
            value = getattr(self, name, None)
            if isinstance(value, list) and len(value) != levels:
                raise ValueError(f"{name} must have {levels} entries, one for each of block_out_channels")
        if self.norm_num_groups and any(width % self.norm_num_groups for width in self.block_out_channels):
            raise ValueError(
                f"block_out_channels must be multiples of norm_num_groups ({self.norm_num_groups})"
            )
        return self


class UNetSchema(DenoiserSchema):
    """A UNet2DConditionModel."""

    sample_size: Side | Annotated[list[Side], Field(min_length=2, max_length=2)] | None = None
    out_channels: Width = 4
    up_block_types: Annotated[list[UpBlock], Field(min_length=1, max_length=8)] = _UP


class ControlNetSchema(DenoiserSchema):
    """A ControlNetModel."""

    conditioning_channels: Width = 3
    conditioning_embedding_out_channels: Levels = [16, 32, 96, 256]


class AutoencoderSchema(Schema):
    """An AutoencoderKL."""

    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    block_out_channels: Levels = [64]
    down_block_types: list[Literal["DownEncoderBlock2D"]] = ["DownEncoderBlock2D"]
    up_block_types: list[Literal["UpDecoderBlock2D"]] = ["UpDecoderBlock2D"]
    layers_per_block: Count = 1
    latent_channels: Width = 4
    norm_num_groups: Width = 32
    scaling_factor: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 0.18215
    sample_size: Side | list[Side] | None = 32

    @model_validator(mode="after")
    def _fits(self) -> "AutoencoderSchema":
        levels = len(self.block_out_channels)
        if not len(self.down_block_types) == len(self.up_block_types) == levels:
            raise ValueError(f"down_block_types and up_block_types must have {levels} entries each")
        if any(width % self.norm_num_groups for width in self.block_out_channels):
            raise ValueError(
                f"block_out_channels must be multiples of norm_num_groups ({self.norm_num_groups})"
            )
        return self


class TransformerSchema(Schema):
    """What the towers of CLIP, and a ViT, have in common."""

    hidden_size: Width = 512
    intermediate_size: Annotated[int, Field(ge=1, le=65536)] = 2048
    num_hidden_layers: Count = 12
    num_attention_heads: Heads = 8
    hidden_act: Literal["quick_gelu", "gelu", "gelu_new", "relu", "silu"] = "quick_gelu"
    layer_norm_eps: Small = 1e-5

    @model_validator(mode="after")
    def _fits(self) -> "TransformerSchema":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads")
        return self


class TextSchema(TransformerSchema):
    """A CLIPTextModel."""

    vocab_size: Annotated[int, Field(ge=257, lt=2**20)] = 49408
    max_position_embeddings: Annotated[int, Field(ge=3, le=4096)] = 77
    bos_token_id: Token | None = None
    eos_token_id: Token | None = None
    pad_token_id: Token | None = None


class ProjectedTextSchema(TextSchema):
    """A CLIPTextModelWithProjection."""

    projection_dim: Width = 512


class VisionSchema(TransformerSchema):
    """A vision tower of CLIP, or a ViTModel."""

    hidden_size: Width = 768
    num_attention_heads: Heads = 12
    image_size: Side = 224
    patch_size: Side = 32

    @model_validator(mode="after")
    def _has_patches(self) -> "VisionSchema":
        if self.patch_size > self.image_size:
            raise ValueError("patch_size must not be larger than image_size")
        return self


class ClipSchema(Schema):
    """A CLIPModel: both towers."""

    text_config: TextSchema = TextSchema()
    vision_config: VisionSchema = VisionSchema()
    projection_dim: Width = 512


class SchedulerSchema(Schema):
    """A scheduler whose noise levels DDIM can take."""

    num_train_timesteps: Annotated[int, Field(ge=2, le=100_000)] = 1000
    beta_start: Share = 0.0001
    beta_end: Share = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    trained_betas: Annotated[list[Share], Field(min_length=2, max_length=100_000)] | None = None
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "leading"
    steps_offset: Annotated[int, Field(ge=0, le=1000)] = 0
    set_alpha_to_one: bool = True
    rescale_betas_zero_snr: bool = False


Kind = TypeVar("Kind", bound=Schema)


def checked(kind: type[Kind], values: Mapping[str, Any], where: object) -> Kind:
    """Return a configuration as its schema has it, defaults filled in.

    Raises: WeightsError for what the schema does not allow; `where` says in it whose configuration it is.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise WeightsError(f"{where}: {_sentence(error, values)}; fetch the model again.") from error


def _sentence(error: ValidationError, values: Mapping[str, Any]) -> str:
    """The first fault, in words: which entry, what it must be, what it is."""
    first = error.errors(include_url=False, include_input=False)[0]
    said = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    names = [part for part in first["loc"] if isinstance(part, int) or part in values or "." not in str(part)]
    if not names:
        return said
    value: Any = values
    place = []
    for name in names:
        try:
            value = value[name]
        except (KeyError, IndexError, TypeError):
            break  # a branch of a union, not a name
        place.append(str(name))
    shown = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a number of many digits"
    return f"{'.'.join(place) or names[0]} {said[0].lower() + said[1:]}, got {shown[:60]}"
