"""What the two source papers claim, as rows; and the corrected bounds measured on a real run of a model."""

import random
from collections.abc import Sequence
from typing import Any

from evenreel.backbones import Backbone
from evenreel.backbones.clip import load_clip
from evenreel.inversions.bilateral import BilateralInversion
from evenreel.progress import Progress, silent, tracked
from evenreel.theory.statement import plain
from evenreel.theory.statements import STATEMENTS
from evenreel.workflows.theory import layers, measures
from evenreel.workflows.theory.measures import Finding
from evenreel.world import ATTRIBUTES, HELD_OUT, caption, random_scene, render

VISION_FRAMES = 9
"""Frames whose vision tokens are put together: those of the packaged CLIP, averaged in pairs, fill its width at 8."""
LIPSCHITZ_STEPS = 5
"""Steps of the run at which the noise predictor's Lipschitz constant is estimated."""


def theory_rows() -> list[dict[str, Any]]:
    """Return every statement as plain text and numbers; counterexamples and checks are run (about two seconds)."""
    return [statement.row() for statement in STATEMENTS]


def measure_theory(
    backbone: Backbone,
    *,
    scene: int = 0,
    frames: int = 5,
    steps: int = 20,
    progress: Progress = silent,
) -> list[Finding]:
    """Return the corrected bounds on a clip of the world: held-out scene `scene`, inverted in `steps` steps.

    The vision tokens are those of the packaged CLIP. About half a minute with the packaged model on one core.
    """
    shown = random_scene(HELD_OUT + scene, objects=1)
    other = shown.edited(
        style=random.Random(scene).choice([one for one in ATTRIBUTES["style"] if one != shown.style])
    )
    clip = render(shown, range(max(frames, VISION_FRAMES)), backbone.native_size, maps=False).frames
    progress("encode a clip of the world", 0, None)
    run = measures.inverted(backbone, backbone.encode(clip[:frames]), caption(shown), steps, progress)
    settings = BilateralInversion()
    progress("temporal loss of self-attention features", 0, None)
    findings = list(measures.on_features(run))
    progress("bilateral filter at every timestep", 0, None)
    findings += measures.on_latents(run, settings)
    # Closer together near the clean end, where it changes fastest.
    shares = ((index / (LIPSCHITZ_STEPS - 1)) ** 2 for index in range(LIPSCHITZ_STEPS))
    chosen = sorted({round(share * (steps - 1)) for share in shares})
    found = measures.lipschitz_by_step(run, chosen)
    lipschitz = dict(tracked(found, progress, "Lipschitz constant of the noise predictor", len(chosen)))
    progress("error propagation", 0, None)
    findings += measures.on_steps(run, lipschitz, settings)
    progress("attention to another prompt", 0, None)
    findings += layers.on_attention(run, backbone.embed([caption(other)]))
    progress("vision tokens", 0, None)
    findings += layers.on_tokens(load_clip("mini", device="cpu"), clip[:VISION_FRAMES])
    progress("vision tokens", 1, 1)
    return findings


def finding_rows(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings as rows of plain values, for JSON."""
    return [
        {
            "statement": one.statement,
            "where": one.where,
            **plain(one.measured),
            "bound_is_estimate": one.estimate,
            "note": one.note,
        }
        for one in findings
    ]


def worst_findings(findings: Sequence[Finding]) -> list[tuple[Finding, int]]:
    """Return, for each statement and quantity, the finding nearest to its bound, and how many there were."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for one in findings:
        groups.setdefault((one.statement, one.measured.what), []).append(one)
    return [
        (max(group, key=lambda one: (not one.measured.holds, one.measured.share or 0.0)), len(group))
        for group in groups.values()
    ]
