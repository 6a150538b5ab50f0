"""What docs/motion.md says of edits to another shape is what its recorded lines say."""

import json
from pathlib import Path
from statistics import fmean, median

from evenreel.hosts.frame import RESHAPING, USUAL
from evenreel.workflows.editing.computing.keeping import LITTLE

DOCS = Path(__file__).parents[1] / "docs"
CONV = 0.8
"""The share of features, which stays."""
OURS, BEFORE = (*RESHAPING, CONV), (*USUAL, CONV)


def lines(name):
    return [json.loads(line) for line in (DOCS / "edits" / name).read_text("utf-8").splitlines()]


SHAPES, AGREEMENT = lines("shapes.jsonl"), lines("agreement.jsonl")
CHOSEN_ON, CARD = range(71000, 71060), range(10000, 10100)


def told(line):
    """The shares that a line was made with; those of the rule where it was made by default."""
    return OURS if line.get("default") else (line["pnp_attn"], line["p2p_cross"], line["pnp_conv"])


def by_shares(clips, kind="shape"):
    found: dict[tuple, dict[int, dict]] = {}
    for line in SHAPES:
        if line["clip"] in clips and list(line["change"]) == [kind]:
            found.setdefault(told(line), {})[line["clip"]] = line
    return found


def page():
    return (DOCS / "motion.md").read_text(encoding="utf-8")


def flat():
    return " ".join(page().split())


def gains(mine, theirs, figure="truth_psnr"):
    return [line[figure] - theirs[clip][figure] for clip, line in mine.items()]


def table():
    """Every choice of shares on the clips on which they were chosen."""
    found = by_shares(CHOSEN_ON)
    usual = found[BEFORE]
    for shares, made in found.items():
        if len(made) < len(usual):
            continue
        gained, steadier = gains(made, usual), gains(made, usual, "object_warp_error")
        cells = [
            *(f"{share:g}" for share in shares),
            f"{sum(line['asked'] for line in made.values()):.0f} of {len(made)}",
            f"{fmean(line['outline'] for line in made.values()):.2f}",
            "" if made is usual else f"{fmean(gained):+.2f}, {median(gained):+.2f}",
            "" if made is usual else f"{sum(one < 0 for one in steadier)} of {len(steadier)}",
            f"{fmean(line['sharpness_ratio'] for line in made.values()):.2f}",
        ]
        yield f"| {' | '.join(cells)} |"


def test_the_table_is_that_of_the_lines():
    rows = list(table())
    assert len(rows) == 7
    for row in rows:
        assert row in page()


def test_what_tells_a_shape():
    own = [line for line in AGREEMENT if line["frames"] == 4]

    def of(kind):
        return [line["agreement"] for line in own if list(line["change"]) == [kind] and line["part"]]

    shape, colour, texture = map(of, ("shape", "colour", "texture"))
    assert not of("background"), "which are of all places"
    assert not of("style")
    assert max(shape) < LITTLE < min(colour)
    taken = sum(one < LITTLE for one in texture)
    assert (
        f"at most {max(shape):.2f} where a shape is asked for ({len(shape)} clips, {median(shape):.2f} in the median), "
        f"at least {min(colour):.2f} where a colour is ({len(colour)}, {median(colour):.2f}), and {min(texture):.2f} "
        f"to {max(texture):.2f} where a texture is ({len(texture)}, {median(texture):.2f}): {taken} of the "
        f"{len(texture)} textures are below {LITTLE}" in flat()
    )


def test_textures_that_are_taken_for_shapes_lose_nothing():
    found = by_shares(range(72000, 72060), "texture")
    gained = gains(found[OURS], found[BEFORE])
    asked = [sum(line["asked"] for line in found[shares].values()) for shares in (OURS, BEFORE)]
    assert asked[0] == asked[1]
    assert (
        f"Edited as shapes, {len(gained)} such textures are {fmean(gained):+.2f} dB nearer on average "
        f"({median(gained):+.2f} in the median, {min(gained):+.2f} at least)" in flat()
    )
