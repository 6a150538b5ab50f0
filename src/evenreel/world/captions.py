"""What people would type to describe a scene: a small grammar with paraphrases."""

import random
import re
from collections.abc import Mapping

from evenreel.world.scene import COLOURS, TEXTURES, Scene, SceneObject

SHAPE_WORDS = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "ring": ("ring", "hoop"),
    "cross": ("cross", "plus sign"),
    "diamond": ("diamond", "rhombus"),
    "figure": ("walking figure", "person"),
}
BACKGROUND_WORDS = {
    "grass": ("grass", "a green lawn"),
    "sand": ("sand", "a sandy beach"),
    "water": ("water", "the sea"),
    "night sky": ("the night sky", "a starry sky"),
    "snow": ("snow", "a snowy field"),
    "bricks": ("bricks", "a brick wall"),
    "wood": ("wood", "wooden planks"),
    "clouds": ("clouds", "a cloudy sky"),
}
STYLE_FRAMES = {
    "none": ("{}", "{}", "{}", "a picture of {}", "a picture with {}"),
    "pixel art": ("{}, pixel art", "{} in pixel art style", "pixel art of {}"),
    "pencil sketch": ("{}, pencil sketch", "{} in pencil sketch style", "a pencil sketch of {}"),
    "poster": ("{}, poster", "{} in poster style", "a poster of {}"),
}
MOTION_WORDS = {
    "resting": ("resting on", "on"),
    "sliding": ("sliding over", "moving across"),
    "rolling": ("rolling over", "turning over"),
    "bouncing": ("bouncing over", "hopping across"),
}
SENTENCES = (
    "{thing} {motion} {background}",
    "{thing} {motion} {background}",
    "{thing} against {background}",
    "{background} with {thing}",
)
PLAIN_WORDS = ("", "", "plain ")


def describe(thing: SceneObject, rng: random.Random | None = None) -> str:
    """Return an object with its article: "a red striped star"."""
    shape = _pick(SHAPE_WORDS[thing.shape], rng)
    texture = _pick(PLAIN_WORDS, rng) if thing.texture == "plain" else f"{thing.texture} "
    words = f"{thing.colour} {texture}{shape}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def caption(scene: Scene, rng: random.Random | None = None) -> str:
    """Return one caption of a scene: the plainest without `rng`, else a paraphrase drawn with it."""
    thing = describe(scene.main, rng)
    if len(scene.objects) == 2:
        thing += f" in front of {describe(scene.objects[0], rng)}"
    sentence = _pick(SENTENCES, rng).format(
        thing=thing,
        motion=_pick(MOTION_WORDS[scene.main.motion.kind], rng),
        background=_pick(BACKGROUND_WORDS[scene.background], rng),
    )
    return _pick(STYLE_FRAMES[scene.style], rng).format(sentence)


def captions(scene: Scene, count: int = 20) -> list[str]:
    """Return different captions of one scene, at most `count`, the same at every call."""
    rng = random.Random(f"evenreel captions {scene.seed}")
    found = {caption(scene): None}
    for _ in range(30 * count):
        if len(found) == count:
            break
        found.setdefault(caption(scene, rng))
    return list(found)


def understood(text: str) -> dict[str, str] | None:
    """Return the attributes (see ATTRIBUTES) that a caption speaks of; None for a text that is not a caption of the
    world.

    Colour, texture and shape are those of the object that is named first; what has no texture is plain.
    """
    words = f" {' '.join(re.findall('[a-z]+', text.lower()))} "
    words, style = _taken(words, _STYLE_WORDS)
    words, background = _taken(words, BACKGROUND_WORDS)
    main = words.partition(" in front of ")[0] + " "
    found = {
        name: [value for value, phrases in table.items() if any(f" {phrase} " in main for phrase in phrases)]
        for name, table in (
            ("shape", SHAPE_WORDS),
            ("colour", _itself(COLOURS)),
            ("texture", _itself(TEXTURES)),
        )
    }
    found["texture"] = found["texture"] or ["plain"]
    if background is None or any(len(values) != 1 for values in found.values()):
        return None
    main_object = {name: values[0] for name, values in found.items()}
    return {**main_object, "background": background, "style": style or "none"}


_STYLE_WORDS = {style: (style,) for style in STYLE_FRAMES if style != "none"}


def _itself(values: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {value: (value,) for value in values}


def _taken(words: str, table: Mapping[str, tuple[str, ...]]) -> tuple[str, str | None]:
    """Words without the longest phrase of a table that occurs in them, and what it stands for."""
    phrases = sorted(
        ((phrase, value) for value, all_ in table.items() for phrase in all_), key=lambda p: -len(p[0])
    )
    for phrase, value in phrases:
        if f" {phrase} " in words:
            return words.replace(f" {phrase} ", " ", 1), value
    return words, None


def vocabulary() -> list[str]:
    """Return every word that a caption can contain, sorted."""
    phrases = [*PLAIN_WORDS, *SENTENCES, "a", "an", "in front of", ",", "."]
    for table in (SHAPE_WORDS, BACKGROUND_WORDS, STYLE_FRAMES, MOTION_WORDS):
        phrases += [phrase for choices in table.values() for phrase in choices]
    text = " ".join([*phrases, *COLOURS, *TEXTURES])
    for mark in ("{thing}", "{motion}", "{background}", "{}", ","):
        text = text.replace(mark, f" {mark} " if mark == "," else " ")
    return sorted(set(text.split()))


def _pick(choices: tuple[str, ...], rng: random.Random | None) -> str:
    return rng.choice(choices) if rng else choices[0]
