"""Which scenes the mini model is trained on."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SceneData:
    """Which scenes are made, and what of each."""

    count: int
    """Scenes in all."""
    begin: int
    """Scenes that are there before a GPU takes its first step; a CPU waits for all."""
    frames: int = 1
    """Frames of each scene: one picture, or a clip."""
    strides: tuple[int, ...] = (1,)
    """From frame to frame of a clip; the seed says which."""
    captions: int = 4
    """Captions of each scene."""
    first: int = 0
    """Seed of the first scene."""
    chunk: int = 128
    """Scenes that a worker renders at a time."""
    controls: bool = False
    """Whether depth, edges and joints are kept too, for ControlNets: 33 KB a picture."""
    edited: bool = False
    """Whether the second half of `frames` shows the first half's frames with the scene changed (`edit_of`); the first
    caption is then of the scene as it is, the second of the changed one."""

    @property
    def shown(self) -> int:
        """Different frames of each scene."""
        return self.frames // 2 if self.edited else self.frames
