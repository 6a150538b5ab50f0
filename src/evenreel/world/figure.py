"""A walking figure made of capsules, whose joints are known at every frame (for pose control)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from evenreel.world.shapes import Distance, Points

JOINTS = (
    "head",
    "neck",
    "hip",
    "left elbow",
    "left hand",
    "right elbow",
    "right hand",
    "left knee",
    "left foot",
    "right knee",
    "right foot",
)
BONES = ((0, 0), (1, 2), (1, 3), (3, 4), (1, 5), (5, 6), (2, 7), (7, 8), (2, 9), (9, 10))
"""Pairs of joints; the head is a bone of length zero."""
OPENPOSE = (
    *("head", "neck"),
    *("neck", "right elbow", "right hand"),
    *("neck", "left elbow", "left hand"),
    *("hip", "right knee", "right foot"),
    *("hip", "left knee", "left foot"),
    *(None, None, None, None),
)
"""Joints in OpenPose's order of 18: nose, neck, right and left arm, right and left leg, eyes and ears."""
THICKNESS = (0.24, 0.2, 0.11, 0.1, 0.11, 0.1, 0.14, 0.12, 0.14, 0.12)
STRIDE_FRAMES = 16.0
"""Frames of a full step cycle."""

Joints = Float[Tensor, "frames joints 2"]


def _limb(root: tuple[float, float], upper: float, lower: float, length: float) -> list[tuple[float, float]]:
    """Middle and end joint of a two-part limb that hangs at angles from straight down."""
    middle = (root[0] + length * math.sin(upper), root[1] + length * math.cos(upper))
    return [middle, (middle[0] + length * math.sin(lower), middle[1] + length * math.cos(lower))]


def joints(frame_indices: Float[Tensor, " frames"]) -> Joints:
    """Return joint positions in units of the figure's radius, in the order of JOINTS."""
    poses = []
    for frame in frame_indices.tolist():
        phase = 2 * math.pi * frame / STRIDE_FRAMES
        neck, hip = (0.0, -0.42), (0.0, 0.12)
        pose = [(0.0, -0.74), neck, hip]
        for side in (0.0, math.pi):
            swing = 0.7 * math.sin(phase + side)
            pose += _limb(neck, -swing - 0.15, -swing + 0.35, 0.3)
        for side in (0.0, math.pi):
            swing = 0.55 * math.sin(phase + side)
            bend = 0.5 * max(0.0, math.cos(phase + side))
            pose += _limb(hip, swing + 0.1, swing - bend, 0.4)
        poses.append(pose)
    return torch.tensor(poses, dtype=torch.float32)


def _capsule(p: Points, pose: Joints, bone: int) -> tuple[Distance, Distance, Distance]:
    """Signed distance to one bone, and each point in the bone's own frame: along, across."""
    (a, b), thickness = BONES[bone], THICKNESS[bone]
    start, axis = pose[:, a, None, None], pose[:, b, None, None] - pose[:, a, None, None]
    length = axis.norm(dim=-1, keepdim=True)
    along_axis = axis / length if a != b else torch.tensor([0.0, 1.0]).expand_as(axis)
    offset = p - start
    along = (offset * along_axis).sum(-1)
    across = offset[..., 0] * -along_axis[..., 1] + offset[..., 1] * along_axis[..., 0]
    beyond = along - torch.minimum(along.clamp(min=0), length[..., 0])
    return torch.hypot(beyond, across) - thickness, along, across


def capsules(
    p: Points, pose: Joints
) -> tuple[Float[Tensor, "bones frames height width"], Float[Tensor, "bones frames height width 2"]]:
    """Return the signed distance to every bone, and each point in the bone's own frame (along, across)."""
    found = [_capsule(p, pose, bone) for bone in range(len(BONES))]
    locals_ = [torch.stack([along, across], dim=-1) for _, along, across in found]
    return torch.stack([distance for distance, _, _ in found]), torch.stack(locals_)


def signed_distance(p: Points, pose: Joints) -> Distance:
    """Return the signed distance to the whole figure."""
    nearest = _capsule(p, pose, 0)[0]
    for bone in range(1, len(BONES)):
        nearest = torch.minimum(nearest, _capsule(p, pose, bone)[0])
    return nearest


def carried(p: Points, pose: Joints, next_pose: Joints) -> Points:
    """Return where each point goes when the bone nearest to it moves from one pose to the next."""
    distances, locals_ = capsules(p, pose)
    nearest = distances.argmin(0)
    moved = []
    for index, (a, b) in enumerate(BONES):
        start = next_pose[:, a, None, None]
        axis = next_pose[:, b, None, None] - start
        axis = axis / axis.norm(dim=-1, keepdim=True) if a != b else torch.tensor([0.0, 1.0]).expand_as(axis)
        normal = torch.stack([-axis[..., 1], axis[..., 0]], dim=-1)
        moved.append(start + locals_[index][..., :1] * axis + locals_[index][..., 1:] * normal)
    choice = nearest[None, ..., None].expand(1, *nearest.shape, 2)
    return torch.stack(moved).gather(0, choice)[0]
