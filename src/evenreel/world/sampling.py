"""Random scenes, each from one seed."""

import math
import random

from evenreel.world.scene import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    STYLES,
    TEXTURES,
    Camera,
    Motion,
    Scene,
    SceneObject,
)

HELD_OUT = 1 << 40
"""Seeds from here on are never trained on."""


def _motion(rng: random.Random, shape: str, start: tuple[float, float], radius: float) -> Motion:
    kind = rng.choice(MOTIONS)
    if shape == "figure" and kind == "rolling":
        kind = "sliding"
    # Heads for the far side, so that the object stays in view for some thirty frames.
    speed = rng.uniform(0.008, 0.025) * (-1 if start[0] > 0 else 1)
    match kind:
        case "resting":
            return Motion(kind=kind, start=start)
        case "sliding":
            return Motion(kind=kind, start=start, velocity=(speed, rng.uniform(-0.006, 0.006)))
        case "rolling":
            return Motion(kind=kind, start=start, velocity=(speed, 0.0), spin=speed / radius)
        case _:
            return Motion(
                kind=kind,
                start=start,
                velocity=(speed, 0.0),
                hop=rng.uniform(0.15, 0.35),
                period=rng.uniform(10, 16),
            )


def _object(
    rng: random.Random, radius: float, start: tuple[float, float], textures: tuple[str, ...] = TEXTURES
) -> SceneObject:
    shape = rng.choice(SHAPES)
    return SceneObject(
        shape=shape,
        colour=rng.choice(COLOURS),
        texture=rng.choice(textures),
        radius=radius,
        angle=0.0 if shape == "figure" else rng.uniform(-0.35, 0.35),
        motion=_motion(rng, shape, start, radius),
    )


def random_scene(seed: int, *, objects: int | None = None) -> Scene:
    """Return a scene drawn from a seed.

    It has one object or, one time in five (unless `objects` says how many), a smaller second one behind it.
    """
    rng = random.Random(f"evenreel scene {seed}")
    count = objects if objects is not None else (2 if rng.random() < 0.2 else 1)
    side = rng.choice((-1, 1))
    main = _object(rng, rng.uniform(0.46, 0.66), (side * rng.uniform(0.05, 0.45), rng.uniform(-0.25, 0.3)))
    things = [main]
    if count == 2:
        behind = (-side * rng.uniform(0.45, 0.7), rng.uniform(-0.6, -0.3))
        # Too small for a texture to be seen.
        things.insert(0, _object(rng, rng.uniform(0.24, 0.32), behind, textures=("plain",)))
    heading = rng.uniform(0, 2 * math.pi)
    speed = rng.choice((0.0, rng.uniform(0.002, 0.012)))
    return Scene(
        background=rng.choice(BACKGROUNDS),
        objects=tuple(things),
        style="none" if rng.random() < 0.4 else rng.choice(STYLES[1:]),
        camera=Camera(
            velocity=(speed * math.cos(heading), speed * math.sin(heading)),
            zoom=rng.choice((0.0, rng.uniform(-0.004, 0.004))),
        ),
        seed=rng.randrange(1 << 31),
    )


def random_change(scene: Scene, rng: random.Random) -> Scene:
    """Return the scene with one to three of its attributes changed: what an edit may ask for."""
    names = rng.sample(list(ATTRIBUTES), rng.randint(1, 3))
    return scene.edited(
        **{
            name: rng.choice([value for value in ATTRIBUTES[name] if value != scene.attribute(name)])
            for name in names
        }
    )
