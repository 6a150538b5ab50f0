"""Clips of the world made from text, with ControlNets of the packaged model that are shown a scene's exact maps."""

from dataclasses import replace

from evenreel.backbones import Backbone
from evenreel.backbones.control import load_control
from evenreel.errors import SettingsError, argument
from evenreel.ops.nearness import nearness
from evenreel.ops.skeleton import skeleton
from evenreel.progress import silent
from evenreel.settings import ControlUse, GenerateSettings
from evenreel.settings.runs import PACKAGED_CONTROLS
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
    backbone: Backbone, settings: GenerateSettings, control: str | None = None, shown: Frames | None = None
) -> Frames:
    """Make a clip from text with a model that is there already; `control` is a packaged ControlNet that is `shown` a
    picture for each frame, at the model's own size."""
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
    if control is not None:
        if control not in PACKAGED_CONTROLS or shown is None:
            raise SettingsError(
                f"{argument('control')} must be a packaged one with maps, got {control!r:.40}."
            )
        # what it is shown is here, and not in a clip
        use = ControlUse(model=control, clip="of the world")
        condition = Condition(load_control(control, backbone), use, settings.batch, None, None)
        condition.see(shown)
        stages = replace(stages, conditions=Conditions((condition,)))
    side = backbone.native_size
    return backbone.decode(stages.latents((side, side))).cpu()
