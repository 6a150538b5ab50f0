"""The sample of the page: a rendered clip with sound, and prompts that the packaged model knows."""

from pathlib import Path

from evenreel import world
from evenreel.web.queue import folder
from evenreel.workflows.world.demo import CHANGES, SCENE, SIZE, write_source

FRAMES = 16


def sample_clip() -> Path:
    """Return the clip, rendered the first time. Raises: OutputError where it cannot be kept."""
    path = folder() / "clips" / "sample" / "red-circle.mp4"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_source(path, world.render(SCENE, range(FRAMES), SIZE).frames)
    return path


def prompts() -> tuple[str, str]:
    """Return what the sample shows, and what it is to show."""
    return world.caption(SCENE), world.caption(SCENE.edited(**CHANGES))
