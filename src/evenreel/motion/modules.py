"""All motion modules of one UNet, in the layout of diffusers' `MotionAdapter`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import nn

from evenreel.errors import WeightsError
from evenreel.motion.transformer import FrameTransformer

_HEADS, _HEADS_NARROW, _NARROW = 8, 4, 320
"""Heads as published, and where a level has less than so many channels (a head has 16 to 40 in mini)."""


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """What decides the layout; names and meaning are those of diffusers' `MotionAdapter`, one entry a level."""

    block_out_channels: tuple[int, ...]
    """Channels of each level, from the outermost."""
    motion_layers_per_block: tuple[int, ...]
    """Modules of each level on the way down; on the way up there is one more."""
    motion_transformer_layers_per_block: tuple[int, ...]
    """Transformer layers inside each module of a level."""
    motion_num_attention_heads: tuple[int, ...]
    """Heads of every attention of a level."""
    motion_norm_num_groups: int = 32
    """Groups of the first normalization of each module."""
    motion_max_seq_length: int = 32
    """The most frames that can pass together."""
    use_motion_mid_block: bool = False
    """Whether there is a module in the middle too."""
    motion_transformer_layers_per_mid_block: int = 1
    """Transformer layers inside that one."""

    def to_json(self) -> dict[str, Any]:
        """Return what diffusers writes into config.json; an entry that is the same at all levels becomes one number."""
        return {
            name: _one(value) if name != _CHANNELS else list(value) for name, value in asdict(self).items()
        }


_CHANNELS = "block_out_channels"


class MotionModules(nn.Module):
    """The modules of all levels; a place of a UNet and its module have the same number in the same block."""

    def __init__(self, config: MotionConfig) -> None:
        """Untrained modules: their last projections are zero, so they add nothing."""
        super().__init__()
        self.config = config
        levels = range(len(config.block_out_channels))
        layers = config.motion_layers_per_block
        self.down_blocks = nn.ModuleList(self._level(level, layers[level]) for level in levels)
        self.up_blocks = nn.ModuleList(self._level(level, layers[level] + 1) for level in reversed(levels))
        self.mid_block = self._middle() if config.use_motion_mid_block else None

    @classmethod
    def for_unet(
        cls,
        unet: Any,
        *,
        max_frames: int = 32,
        heads: int | None = None,
        use_motion_mid_block: bool = False,
        seed: int = 0,
    ) -> "MotionModules":
        """Return untrained modules for a `UNet2DConditionModel` of SD 1.x's kind, on its device, in float32.

        `heads` are 8 as published, 4 in levels of less than 320 channels.
        Weights are drawn from `seed` alone. Raises: WeightsError for a UNet of another kind.
        """
        widths, layers = _shape_of(unet)
        groups = int(unet.config["norm_num_groups"])
        per_level = tuple(heads or _heads(width) for width in widths)
        config = MotionConfig(
            block_out_channels=widths,
            motion_layers_per_block=layers,
            motion_transformer_layers_per_block=(1,) * len(widths),
            motion_num_attention_heads=per_level,
            motion_norm_num_groups=groups,
            motion_max_seq_length=max_frames,
            use_motion_mid_block=use_motion_mid_block,
        )
        generators: Any = torch.random  # whose functions are not annotated in full
        with generators.fork_rng(devices=[]):
            generators.manual_seed(seed)
            return cls(config).to(next(unet.parameters()).device)

    @property
    def parameter_count(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def max_frames(self) -> int:
        """The most frames that can pass together."""
        return self.config.motion_max_seq_length

    def places(self, unet: Any) -> list[tuple[nn.Module, FrameTransformer]]:
        """Return layers of a UNet, each with the module that belongs behind it.

        Raises: WeightsError unless the UNet has the levels, layers and widths that these modules are made for.
        """
        widths, layers = _shape_of(unet)
        made_for = (self.config.block_out_channels, self.config.motion_layers_per_block)
        if (widths, layers) != made_for:
            raise WeightsError(
                f"the motion modules are for levels of {made_for[0]} channels with {made_for[1]} layers, "
                f"but this model's are {widths} with {layers}; use modules that were made for it."
            )
        layers_in_order = [
            layer for block in (*unet.down_blocks, *unet.up_blocks) for layer in _last_layers(block)
        ]
        modules = [own for box in (*self.down_blocks, *self.up_blocks) for own in _inside(box)]
        if self.mid_block is not None:
            # Behind the attention and before the second resnet, as in diffusers' UNetMotionModel.
            layers_in_order += _attentions(unet.mid_block)
            modules += _inside(self.mid_block)
        return list(zip(layers_in_order, modules, strict=True))

    def _level(self, level: int, modules: int) -> "_Box":
        config = self.config
        layers = (config.motion_transformer_layers_per_block[level],) * modules
        return self._box(config.block_out_channels[level], config.motion_num_attention_heads[level], layers)

    def _middle(self) -> "_Box":
        config = self.config
        layers = (config.motion_transformer_layers_per_mid_block,)
        return self._box(config.block_out_channels[-1], config.motion_num_attention_heads[-1], layers)

    def _box(self, channels: int, heads: int, layers: Sequence[int]) -> "_Box":
        config = self.config
        return _Box(
            FrameTransformer(
                channels,
                heads=heads,
                layers=each,
                max_frames=config.motion_max_seq_length,
                norm_groups=config.motion_norm_num_groups,
            )
            for each in layers
        )


class _Box(nn.Module):
    """The modules of one block, under the name that they have in diffusers."""

    def __init__(self, modules: Iterable[FrameTransformer]) -> None:
        super().__init__()
        self.motion_modules = nn.ModuleList(modules)


def _shape_of(unet: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and layers of each level of a UNet, from the outermost. Raises: WeightsError for another kind."""
    config: Mapping[str, Any] = getattr(unet, "config", {})
    try:
        widths = tuple(config["block_out_channels"])
        layers = config["layers_per_block"]
        layers = (layers,) * len(widths) if isinstance(layers, int) else tuple(layers)
        usual = all(
            len(_last_layers(block)) == expected
            for block, expected in zip(
                [*unet.down_blocks, *unet.up_blocks],
                [*layers, *(each + 1 for each in reversed(layers))],
                strict=True,
            )
        )
        usual = usual and len(_attentions(unet.mid_block)) == 1
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise WeightsError(_OTHER_KIND) from error
    if not usual:
        raise WeightsError(_OTHER_KIND)
    return widths, layers


_OTHER_KIND = "motion modules need a UNet of Stable Diffusion 1.x's kind, and this model's is another."


def _inside(box: Any) -> list[FrameTransformer]:
    return list(box.motion_modules)


def _last_layers(block: Any) -> list[nn.Module]:
    """Of each layer of a block what comes last: the attention, or the resnet where there is none."""
    return _attentions(block) or list(block.resnets)


def _attentions(block: Any) -> list[nn.Module]:
    return list(getattr(block, "attentions", None) or [])


def _heads(width: int) -> int:
    heads = _HEADS if width >= _NARROW else _HEADS_NARROW
    return 1 if width % heads else heads


def _one(value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    levels = cast("tuple[Any, ...]", value)
    return levels[0] if len(set(levels)) == 1 else list(levels)
