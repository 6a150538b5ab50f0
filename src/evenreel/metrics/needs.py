"""Families of metrics, and what a metric may need besides the clips; imports nothing."""

FAMILIES = ("fidelity", "perceptual", "structure", "temporal", "clip", "distribution", "composite", "world")
"""The order in which families of metrics are shown; others follow."""

NEEDS = {
    "prompt": "no prompt is known: give one, or keep the record (.json) beside the edit",
    "source_prompt": "no source prompt is known: give one, or keep the record (.json) beside the edit",
    "mask": "no mask was given",
    "truth": "no right answer was given",
    "answer": "no motion of the right answer is known: that takes the right answer, prompts that are captions of "
    "the mini model's world, and OpenCV (pip install 'evenreel[metrics]')",
    "flow": "no flow was given, and OpenCV is not there to estimate one: pip install 'evenreel[metrics]'",
    "clip": "no CLIP was given: name a folder, or `mini` for clips of the world",
    "lpips": "no LPIPS weights were given: name a .safetensors file",
    "dino": "no DINO was given: name a folder",
    "inception": "no Inception was given: name a .safetensors file",
}
"""What a metric may need besides the clips (fields of `metrics.window.Inputs`), and what is said without it."""


def place(name: str, family: str) -> tuple[int, str, str]:
    """Return what metrics are sorted by: family, then name."""
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES), family, name


def first_paragraph(doc: str) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return " ".join(doc.partition("\n\n")[0].split())
