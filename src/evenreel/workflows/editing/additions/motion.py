"""Motion modules in an edit or a clip made from text: opened and checked before the long work, attached throughout."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from evenreel.backbones import Backbone, mini
from evenreel.backbones.hub import find
from evenreel.errors import SettingsError, argument
from evenreel.files import expanded
from evenreel.hosts.base import Host, TakesMotion
from evenreel.hosts.motion_windows import MotionWindows
from evenreel.motion.attach import motion_attached
from evenreel.motion.folder import MotionFolder, load_motion
from evenreel.motion.modules import MotionModules
from evenreel.motion.single_file import MotionFile
from evenreel.settings.runs import AUTO_HOST

AUTO, OFF, MINI = "auto", "off", "mini"
MOVED_HOST = "frame"
"""The host that `auto` is where motion modules let frames agree: nothing else is needed then (docs/motion.md)."""


@dataclass(frozen=True)
class MotionInUse:
    """Motion modules that fit the model, on its device and in its number type."""

    modules: MotionModules
    name: str
    """By which they are found again: `mini`, a folder, or a name on the hub."""
    fingerprint: str
    """Hash of their weights."""
    window: int
    """Frames that pass together."""

    @classmethod
    def opened(
        cls, motion: str, window: int, backbone: Backbone, host: Host, *, download: bool
    ) -> "MotionInUse | None":
        """Open what settings call `motion`; None where there is nothing to attach.

        Raises: WeightsError for modules that are absent, damaged or made for another model, SettingsError for a host
        or a window that does not go with them.
        """
        name = resolved(motion, backbone, host)
        if name == OFF:
            return None
        if not can_move(host):
            raise SettingsError(
                f"host {host.name} lets no frames of a clip pass together, as motion modules need; choose another "
                f"host, or {argument('motion')} off."
            )
        folder = folder_of(name, download=download)
        modules = load_motion(folder)
        if window > modules.max_frames:
            raise SettingsError(
                f"{argument('motion_window')} must be at most {modules.max_frames} here, got {window}."
            )
        modules.places(backbone.unet)  # made for another model?
        modules.to(backbone.device, backbone.dtype)
        found_again = str(expanded(name).absolute()) if name != MINI and expanded(name).exists() else name
        return cls(modules, found_again, folder.fingerprint, window)

    @contextmanager
    def attached(
        self, backbone: Backbone, timesteps: Sequence[int], apart: frozenset[int] = frozenset()
    ) -> Generator[MotionWindows]:
        """Put them into the model while inside, at work in calls that say so; `timesteps` are those of the run,
        descending.

        Frames in `apart` pass by themselves.
        """
        with motion_attached(backbone.unet, self.modules) as switch:
            switch.is_on = False
            yield MotionWindows(
                switch=switch,
                most=self.modules.max_frames,
                size=self.window,
                timesteps=timesteps,
                apart=apart,
            )

    def described(self) -> dict[str, Any]:
        """Describe the motion modules, for the record."""
        return {"name": self.name, "fingerprint": self.fingerprint}


def resolved(motion: str, backbone: Backbone, host: Host) -> str:
    """Return what `auto` means for a model and a host: the modules packaged for `mini`, or none."""
    if motion != AUTO:
        return motion
    return MINI if mini_moves(backbone.name) and can_move(host) else OFF


def chosen_host(host: str, motion: str, model: str, usual: str) -> str:
    """Return the host that `auto` is for a model of that name: `usual`, unless motion modules are at work."""
    if host != AUTO_HOST:
        return host
    moved = mini_moves(model) if motion == AUTO else motion != OFF
    return MOVED_HOST if moved else usual


def mini_moves(model: str) -> bool:
    """Tell whether a model of that name is the packaged one, and motion modules come with it."""
    return model == "mini" and mini.MOTION.is_dir()


def can_move(host: Host) -> bool:
    """Tell whether a host lets frames of a clip pass together."""
    return isinstance(host, TakesMotion) and host.with_motion


def folder_of(name: str, *, download: bool = False) -> MotionFolder | MotionFile:
    """Find where motion modules lie: `mini`, a folder, a file, or a name on the hub.

    Raises: WeightsError where there are none.
    """
    if name != MINI and expanded(name).is_file():
        return MotionFile(expanded(name))
    return MotionFolder(mini.MOTION) if name == MINI else find(name, download=download, kind=MotionFolder)
