"""The adapter as a whole: LoRA and prompt tokens, at work in a window of noise levels, around any host."""

from collections.abc import Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from evenreel.adapters.lora import Lora, LoraSwitch, lora_attached, targets
from evenreel.adapters.prompt_tokens import Prefix, PromptTokens, VisionTokens
from evenreel.adapters.settings import AdapterSettings
from evenreel.adapters.window import Window
from evenreel.backbones.base import Backbone
from evenreel.backbones.hooks import timesteps_seen
from evenreel.errors import SettingsError, WeightsError
from evenreel.scratch import piecewise
from evenreel.settings import check_range


class Adapter(nn.Module):
    """LoRA and prompt tokens for one model; its parameters are what is trained."""

    def __init__(self, settings: AdapterSettings, lora: Lora | None, tokens: PromptTokens | None) -> None:
        super().__init__()
        self.settings, self.lora, self.tokens = settings, lora, tokens

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        settings: AdapterSettings,
        *,
        vision_width: int | None = None,
        generator: torch.Generator | None = None,
    ) -> "Adapter":
        """Return a new one, which changes nothing yet but by its prompt tokens.

        `vision_width` is that of the vision tower's hidden states; it may be None where no frame is looked at.
        """
        unet, lora, tokens = backbone.unet, None, None
        if settings.lora is not None:
            lora = Lora.of(unet, settings.lora, generator)
        if settings.tokens is not None:
            if vision_width is None and settings.tokens.select != "none":
                raise SettingsError("prompt tokens of frames need a CLIP vision tower; name one.")
            tokens = PromptTokens(settings.tokens, prompt_width(backbone), vision_width or 1, generator)
        return cls(settings, lora, tokens)

    @property
    def needs_frames(self) -> bool:
        """Whether it looks at the frames of the source through a vision tower."""
        return self.tokens is not None and self.tokens.projection is not None

    @property
    def parts(self) -> frozenset[str]:
        """Those of `lora`, `shared` (tokens of all frames) and `frames` (tokens of each) that it has."""
        tokens = self.tokens
        there = {
            "lora": self.lora is not None,
            "shared": tokens is not None and bool(len(tokens.shared)),
            "frames": tokens is not None and tokens.projection is not None,
        }
        return frozenset(part for part, found in there.items() if found)

    def only(self, parts: Collection[str] | None = None, frame_weight: float | None = None) -> "Adapter":
        """Return some of its parts as an adapter that shares their weights; None takes all.

        `frame_weight` is what tokens of each frame are multiplied by, None as in the settings. Raises: WeightsError
        for parts that it does not have, and for a weight of tokens that it does not have.
        """
        if parts is None and frame_weight is None:
            return self
        wanted = self.parts if parts is None else frozenset(parts)
        if missing := sorted(wanted - self.parts):
            raise WeightsError(
                f"the adapter has no part {missing[0]}; it has {', '.join(sorted(self.parts))}."
            )
        if frame_weight is not None and "frames" not in wanted:
            raise WeightsError("tokens of frames have a weight, and the adapter uses none; leave it out.")
        lora = self.lora if "lora" in wanted else None
        tokens = None
        if self.tokens is not None and wanted & {"shared", "frames"}:
            tokens = self.tokens.only(
                shared="shared" in wanted, frames="frames" in wanted, weight=frame_weight
            )
        settings = replace(
            self.settings,
            lora=None if lora is None else self.settings.lora,
            tokens=None if tokens is None else tokens.settings,
        )
        return Adapter(settings, lora, tokens)

    def check_fits(self, backbone: Backbone) -> None:
        """Raise WeightsError unless it was made for a model of this layout."""
        if self.lora is not None and set(self.lora.shapes) != set(
            targets(backbone.unet, self.lora.settings.scope)
        ):
            raise WeightsError(
                f"the adapter does not change those layers of model {backbone.name} that its settings name; "
                "it was made for another model."
            )
        if self.tokens is not None and self.tokens.width != prompt_width(backbone):
            raise WeightsError(
                f"the adapter's prompt tokens have {self.tokens.width} features, but model {backbone.name} takes "
                f"{prompt_width(backbone)}; it was made for another model."
            )

    @contextmanager
    def attach(
        self,
        backbone: Backbone,
        *,
        hidden: VisionTokens | None = None,
        scale: float | None = None,
        window: Window | None = None,
        fused: bool = False,
    ) -> Generator["AttachedAdapter"]:
        """Put it to work in a model while inside: its LoRA by itself, its tokens through `EditJob.prefix`.

            with adapter.attach(backbone, hidden=hidden) as attached:
                job = replace(job, prefix=attached.prefix)
                with host.attach(backbone, job) as session: ...

        `hidden` is what the vision tower says of every frame of the source; without it, only shared tokens are used.
        Outside the `window`, and with a `scale` of 0, the model and its prompts are what they are without an adapter,
        bit for bit. `fused` adds the LoRA to copies of the weights: more memory, no time. Afterwards, and after an
        exception, the model is as it was. Raises: WeightsError for a model that it does not fit, SettingsError.
        """
        scale = self.settings.scale if scale is None else scale
        window = self.settings.inference_window if window is None else window
        check_range("scale", scale, 0, 10)
        self.check_fits(backbone)
        with ExitStack() as stack:
            if scale == 0:
                yield AttachedAdapter(None, None, window, 1)
                return
            switch = None
            if self.lora is not None:
                attached = lora_attached(backbone.unet, self.lora, scale=scale, fused=fused)
                switch = stack.enter_context(attached)
            session = AttachedAdapter(
                switch, self._prefixes(hidden), window, len(backbone.schedule.alphas_cumprod)
            )
            stack.enter_context(timesteps_seen(backbone.unet, session.see))
            yield session

    @torch.no_grad()
    def _prefixes(self, hidden: VisionTokens | None) -> Prefix | None:
        if self.tokens is None:
            return None
        device = self.tokens.shared.device
        module = self.tokens
        if hidden is None:
            tokens = module().detach()
        else:
            tokens = piecewise(lambda rows: module(rows.to(device)).detach(), hidden)
        return tokens if tokens.shape[1] else None


class AttachedAdapter:
    """An adapter at work in a model."""

    def __init__(
        self, switch: LoraSwitch | None, prefixes: Prefix | None, window: Window, trained: int
    ) -> None:
        self._switch, self._prefixes, self._window, self._trained = switch, prefixes, window, trained

    def is_active(self, timestep: int) -> bool:
        """Return whether it is at work at a timestep."""
        return self._window.holds(timestep, self._trained)

    def see(self, timestep: int) -> None:
        """Prepare the model for a network call at a timestep."""
        if self._switch is not None:
            self._switch.turn(on=self.is_active(timestep))

    def prefix(self, frames: Sequence[int], timestep: int) -> Tensor | None:
        """Return tokens (frames tokens features) in front of the prompts of some frames; None where there are none."""
        if self._prefixes is None or not self.is_active(timestep):
            return None
        if len(self._prefixes) == 1:
            return self._prefixes.expand(len(frames), -1, -1)
        return self._prefixes[list(frames)]


def prompt_width(backbone: Backbone) -> int:
    """Return how many features the prompts have that a model takes."""
    return backbone.unet.config.cross_attention_dim
