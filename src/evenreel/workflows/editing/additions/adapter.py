"""An adapter in an edit: opened and checked before the long work, shown the source's frames, attached for sampling."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evenreel.adapters.adapter import Adapter
from evenreel.adapters.checkpoint import Origin, load
from evenreel.adapters.window import Window
from evenreel.backbones import Backbone, mini
from evenreel.backbones.clip import ClipModel, load_clip
from evenreel.errors import WeightsError, argument
from evenreel.files import expanded
from evenreel.hosts.base import PrefixOf
from evenreel.scratch import Growing
from evenreel.settings import AdapterUse, RunSettings
from evenreel.types import Frames
from evenreel.workflows.editing.records import record


@dataclass
class AdapterInUse:
    """An adapter, and what its vision tower has seen of the clip so far."""

    adapter: Adapter
    origin: Origin
    path: Path
    scale: float
    window: Window
    fused: bool
    clip: ClipModel | None
    """Whose vision tower looks at frames; None where the adapter looks at none."""
    part: slice | None = None
    """The frames that are edited, of those seen; None is all of them."""
    _seen: Growing = field(default_factory=Growing)

    @classmethod
    def opened(
        cls, use: AdapterUse | None, backbone: Backbone, *, with_source: bool
    ) -> "AdapterInUse | None":
        """Open what settings name; None where they name nothing. Raises: WeightsError, SettingsError."""
        if use is None:
            return None
        path = mini.ADAPTER if use.file == "mini" else expanded(use.file)
        if use.file == "mini" and not path.is_file():
            raise WeightsError(
                "no adapter is packaged for mini at present; train one with `evenreel train adapter` (docs/adapter.md)."
            )
        if not path.is_file():
            raise WeightsError(
                f"{path}: there is no such adapter file; train one with `evenreel train adapter`."
            )
        adapter, origin = load(path, base=backbone.known_as(), other_base=use.other_base)
        adapter.check_fits(backbone)
        adapter = adapter.only(use.parts_at_work, use.frame_weight)
        clip = None
        if adapter.needs_frames and with_source:
            clip = _clip(use.clip or origin.vision_name, origin, path, backbone)
            load(path, base=None, vision=clip.known_as, other_base=use.other_base)
        scale = adapter.settings.scale if use.scale is None else use.scale
        window = adapter.settings.inference_window if use.window is None else Window.parse(use.window)
        return cls(adapter.to(backbone.device), origin, path, scale, window, use.fused, clip)

    def see(self, frames: Frames) -> None:
        """Look at the next frames of the source, as the model gets them."""
        if self.clip is not None:
            self._seen.append(self.clip.frame_tokens(frames))

    @contextmanager
    def attached(self, backbone: Backbone) -> Generator[PrefixOf]:
        """Put it to work in the model while inside; yields what puts its tokens in front of prompts."""
        hidden = self._seen.tensor()[self.part or slice(None)] if len(self._seen) else None
        with self.adapter.attach(
            backbone, hidden=hidden, scale=self.scale, window=self.window, fused=self.fused
        ) as attached:
            yield attached.prefix

    def described(self) -> dict[str, Any]:
        """Describe the adapter and how it was used, for the record."""
        return {
            "path": str(self.path.absolute()),
            "sha256": record.hash_of((self.path,)),
            "scale": self.scale,
            "window": str(self.window),
            "parts": sorted(self.adapter.parts),
            "base": self.origin.base,
            "vision": None if self.clip is None else self.clip.fingerprint,
            "vision_name": None if self.clip is None else self.clip.name,
            "licence": self.origin.licence,
        }


def clip_of(settings: RunSettings, recorded: Mapping[str, Any]) -> str:
    """Return where the CLIP of a recorded adapter lies."""
    told = None if settings.adapter is None else settings.adapter.clip
    return told or str(recorded.get("vision_name"))


def _clip(name: str, origin: Origin, path: Path, backbone: Backbone) -> ClipModel:
    if name != "mini" and not expanded(name).is_dir():
        raise WeightsError(
            f"{path}: looks at frames through the CLIP {Path(name).name} ({(origin.vision or 'unknown')[:12]}), whose "
            f"place it does not know; name its folder with {argument('adapter_clip')}."
        )
    return load_clip(name, device=backbone.device)
