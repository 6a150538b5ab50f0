"""The procedural captioned video world, in which every edit has an exact answer."""

from evenreel.world.captions import caption, captions
from evenreel.world.render import Rendering, keypoints, main_flow, main_mask, render
from evenreel.world.sampling import HELD_OUT, random_change, random_scene
from evenreel.world.scene import ATTRIBUTES, Camera, Motion, Scene, SceneObject

__all__ = [
    "ATTRIBUTES",
    "HELD_OUT",
    "Camera",
    "Motion",
    "Rendering",
    "Scene",
    "SceneObject",
    "caption",
    "captions",
    "keypoints",
    "main_flow",
    "main_mask",
    "random_change",
    "random_scene",
    "render",
]
