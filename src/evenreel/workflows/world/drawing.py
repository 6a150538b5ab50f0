"""Clips made from text with ControlNets, which are shown maps that are at hand: of scenes of the world exact ones."""

from dataclasses import replace

from evenreel.backbones import Backbone
from evenreel.backbones.control import load_control
from evenreel.errors import SettingsError
from evenreel.ops.nearness import nearness
from evenreel.ops.skeleton import skeleton
from evenreel.progress import silent
from evenreel.settings import ControlUse, GenerateSettings, read
from evenreel.types import Frames
from evenreel.workflows.editing.additions.control import Condition, Conditions
from evenreel.workflows.editing.generate import Generation
from evenreel.workflows.editing.setup.run_setup import opened
from evenreel.world import Rendering, Scene, keypoints


def maps_of(scene: Scene, clip: Rendering, kind: str) -> Frames:
    """Return what a ControlNet of a kind is shown of a rendered clip: for `canny` the frames, whose edges are found
    later; `depth` and `pose` are exact."""
    count, _, height, width = clip.frames.shape
    match kind:
        case "canny":
            return clip.frames
        case "depth":
            return nearness(clip.depth[:count]).expand(-1, 3, -1, -1)
        case "pose":
            return skeleton(keypoints(scene, range(count), (height, width)), (height, width)).float() / 255
        case _:
            raise SettingsError(f"a control must be canny, depth or pose, got {kind!r:.40}.")


def drawn_frames(
    backbone: Backbone,
    settings: GenerateSettings,
    control: str | None = None,
    kind: str | None = None,
    shown: Frames | None = None,
) -> Frames:
    """Make a clip from text with a model that is there already; `control` is a ControlNet of a `kind` that is `shown` a
    picture for each frame, at the model's own size; of `canny` the pictures whose edges it sees."""
    stages = opened(
        Generation,
        settings,
        backbone,
        silent,
        prompts=[settings.prompt, settings.negative_prompt],
        inversion=None,
        frames=settings.frames,
        download=False,
    )
    if control is not None and kind is not None and shown is not None:
        # what it is shown is here, and not in a clip
        use = read(ControlUse, {"model": control, "kind": kind, "clip": "-"}, ControlUse.noun)
        condition = Condition(load_control(control, backbone), use, settings.batch, None, None)
        condition.see(shown)
        stages = replace(stages, conditions=Conditions((condition,)))
    side = backbone.native_size
    return backbone.decode(stages.latents((side, side))).cpu()
