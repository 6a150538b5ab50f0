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


def test_what_is_said_of_places():
    found = by_shares(CHOSEN_ON)
    tenth = found[0.15, 0.1, CONV]
    assert (len(tenth), [clip for clip, line in tenth.items() if not line["asked"]]) == (5, [71010, 71050])
    worse = [one > 0 for one in gains(found[OURS], found[BEFORE], "object_warp_error")]
    assert (
        f"in {sum(worse)} of {len(worse)} clips the object follows the source's motion worse than it did"
        in flat()
    )


def test_what_tells_a_shape():
    own = [line for line in AGREEMENT if line["frames"] == 4]

    def of(kind):
        return [line["agreement"] for line in own if list(line["change"]) == [kind] and line["part"]]

    shape, colour, texture = map(of, ("shape", "colour", "texture"))
    assert not of("background"), "which are of all places"
    assert not of("style")
    card = [line for line in AGREEMENT if line["frames"] == 8]
    assert len(card) == 100
    seen = [line for line in card if line["part"] and line["agreement"] < LITTLE]
    assert {kind for line in seen for kind in line["change"]} == {"shape", "texture"}
    assert [line["clip"] for line in seen if "texture" in line["change"]] == [10007, 10012, 10017, 10082]
    assert len(seen) == 23, "all shapes but one, and four textures"
    assert min(colour) > LITTLE
    missed, taken = sum(one >= LITTLE for one in shape), sum(one < LITTLE for one in texture)
    assert (
        f"at most {max(shape):.2f} where a shape is asked for ({len(shape)} clips, {median(shape):.2f} in the median), "
        f"at least {min(colour):.2f} where a colour is ({len(colour)}, {median(colour):.2f}), and {min(texture):.2f} "
        f"to {max(texture):.2f} where a texture is ({len(texture)}, {median(texture):.2f}). Below {LITTLE}, the limit, "
        f"are all shapes but {missed}, no colour, and {taken} of the {len(texture)} textures" in flat()
    )


def test_what_is_said_of_textures_that_are_taken_for_shapes():
    found = by_shares(range(72000, 72160), "texture")
    made = found[OURS]
    before = {clip: found[BEFORE][clip] for clip in made}
    gained = gains(made, before)
    asked = [sum(line["asked"] for line in lines_.values()) for lines_ in (made, before)]
    four = {line["clip"]: line["agreement"] for line in AGREEMENT if line["frames"] == 4}
    assert sum(four[clip] >= LITTLE for clip in made) == 2
    assert (
        f"Edited so, {len(made)} textures (72017 to 72112, two of them above the limit) move by "
        f"{fmean(gained):+.2f} dB on average ({median(gained):+.2f} in the median, {min(gained):+.2f} to "
        f"{max(gained):+.2f}), and what was "
        f"asked is found in {asked[0]:.0f} with it and in {asked[1]:.0f} without" in flat()
    )


def test_what_is_said_of_the_model_card():
    report = json.loads((DOCS.parent / "src/evenreel/weights/mini/report.json").read_text("utf-8"))
    rows = {row["name"]: row for row in report["figures"] if row["part"] == "editing, frame"}
    made = {
        line["clip"]: line
        for line in SHAPES
        if line["clip"] in CARD and "shape" in line["change"] and line.get("default")
    }
    (told_so,) = (
        line for line in SHAPES if line["clip"] in CARD and told(line) == OURS and not line.get("default")
    )
    assert (told_so["clip"], told_so["asked"]) == (10030, 1)
    assert [clip for clip, line in made.items() if not line["asked"]] == [10030]
    found = sum(line["asked"] for line in made.values())
    assert len(made) == 20
    assert all(line["kept"] == 1 for line in made.values())
    before = round(rows["asked for: shape"]["value"] * rows["asked for: shape"]["count"] / 100)
    assert f"what was asked is found in {found:.0f} of {len(made)}, where the card has {before}" in flat()
    textures = [line for line in SHAPES if line["clip"] in CARD and "texture" in line["change"]]
    now = [line for line in textures if told(line) == OURS]
    then = {line["clip"]: line for line in textures if told(line) == BEFORE}
    missed = [line["clip"] for line in now if not line["asked"]]
    assert all(not then[clip]["asked"] for clip in missed), "and were so before"
    total = rows["asked for is there"]["value"] - before + found
    assert f"it is there in {total:.0f} of the card's 100" in flat()
    earlier = {
        line["clip"]: line
        for line in lines("injection.jsonl")
        if line["frames"] == 8 and line["pnp_attn"] == 0.5 and line["clip"] in made
    }
    gained = gains({clip: made[clip] for clip in earlier}, earlier)
    outline = [fmean(one[clip]["outline"] for clip in earlier) for one in (earlier, made)]
    assert (
        f"Of the {len(earlier)} of which there are lines of before, the worst outline is {outline[1]:.2f} on average "
        f"where it was {outline[0]:.2f}, and they are {fmean(gained):+.2f} dB nearer "
        f"({median(gained):+.2f} in the median, {min(gained):+.2f} at least)" in flat()
    )


def test_what_is_said_of_the_held_out_clip():
    (line,) = (line for line in SHAPES if line["clip"] == 50010)
    (before,) = (
        one
        for one in lines("edits.jsonl")
        if one["clip"] == 50010 and one["row"].startswith("default (`frame`")
    )
    assert (
        f"from {before['truth_psnr']:.1f} to {line['truth_psnr']:.1f} dB, its worst outline from "
        f"{min(before['outlines']):.2f} to {line['outline']:.2f}" in flat()
    )
