"""What docs/motion.md says of edits to another shape is what its recorded lines say."""

import json
from pathlib import Path
from statistics import fmean, median

from evenreel.hosts.frame import RESHAPING, USUAL
from evenreel.ops.prompt_changes import is_another_thing
from evenreel.workflows.editing.computing.keeping import LITTLE
from evenreel.workflows.world.edits import WorldEdit
from evenreel.world import caption

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


def captions(number):
    edit = WorldEdit.drawn(number, 2)
    return caption(edit.scene), caption(edit.target)


def names_another_thing(line):
    """Whether the prompt of a clip does, of which a line tells."""
    edit = WorldEdit.held_out(line["clip"], 2)
    assert edit.change == line["change"]
    return is_another_thing(caption(edit.scene), caption(edit.target))


def test_what_tells_a_shape():
    own = [line for line in AGREEMENT if line["clip"] in range(72000, 72160)]

    def of(kind):
        return [line["agreement"] for line in own if list(line["change"]) == [kind] and line["part"]]

    shape, colour, texture = map(of, ("shape", "colour", "texture"))
    assert not of("background"), "which are of all places"
    assert not of("style")
    assert (
        f"at most {max(shape):.2f} where a shape is asked for ({len(shape)} clips, {median(shape):.2f} in the median), "
        f"at least {min(colour):.2f} where a colour is ({len(colour)}, {median(colour):.2f}), and {min(texture):.2f} "
        f"to {max(texture):.2f} where a texture is ({len(texture)}, {median(texture):.2f})" in flat()
    )
    taken = sum(one < 0.1 for one in texture)
    assert f"{taken} of the {len(texture)} textures agree less than 0.1" in flat()


def test_all_shapes_are_told_and_nothing_else():
    card = [line for line in AGREEMENT if line["frames"] == 8]
    assert len(card) == 100
    sixty = [line for line in AGREEMENT if line["clip"] in range(74000, 74060)]
    seen = [line for line in AGREEMENT if line not in sixty]
    told_so, afterwards = (
        [line for line in some if line["part"] and line["agreement"] < LITTLE and names_another_thing(line)]
        for some in (seen, sixty)
    )
    assert all("shape" in line["change"] for line in told_so)
    (missed,) = (line for line in seen if "shape" in line["change"] and line not in told_so)
    assert (missed["clip"], missed["part"]) == (72065, False)
    assert (
        f"By both are told {len(told_so)} of the {len(told_so) + 1} shapes of these {len(seen)} clips and nothing "
        f"else, with {LITTLE} for the limit" in flat()
    )
    assert len(sixty) == 60
    assert afterwards == [line for line in sixty if "shape" in line["change"]]
    assert f"all {len(afterwards)} shapes are told and nothing else" in flat()


def both_ways(*changes):
    """Lines of clips whose changes are these, with less from the source and as other edits are made."""
    found: dict[tuple, dict[int, dict]] = {}
    for line in SHAPES:
        if "agreement" in line and set(line["change"]) in changes:
            assert is_another_thing(*captions(line["clip"]))
            found.setdefault(told(line), {})[line["clip"]] = line
    assert found[OURS].keys() == found[BEFORE].keys()
    return found[OURS], found[BEFORE]


def test_what_is_said_of_a_shape_and_a_texture():
    less, usual = both_ways({"shape", "texture"})
    assert (min(less), max(less), len(less)) == (73026, 73246, 12)
    asked = [sum(line["asked"] for line in some.values()) for some in (usual, less)]
    outline = [fmean(line["outline"] for line in some.values()) for some in (usual, less)]
    assert (
        f"{asked[0]:g} of what was asked is found as other edits are made, and {asked[1]:g} with less from the source"
        in flat()
    )
    gained = gains(less, usual)
    worse = [one > 0 for one in gains(less, usual, "object_warp_error")]
    assert (
        f"the worst outline comes from {outline[0]:.2f} to {outline[1]:.2f}, and truth PSNR stays "
        f"({fmean(gained):+.2f} dB on average, {median(gained):+.2f} in the median); the object's warp error grows in "
        f"{sum(worse)} of {len(worse)}" in flat()
    )
    below = [clip for clip, line in less.items() if line["agreement"] < LITTLE]
    were, are = (sum(some[clip]["asked"] for clip in below) for some in (usual, less))
    assert (
        f"{len(below)} of the twelve are below the limit, and so edited so; of these {were:g} were found, and "
        f"{are:g} are" in flat()
    )


def test_what_is_said_of_a_shape_and_a_colour():
    less, usual = both_ways({"shape", "colour"}, {"shape", "colour", "texture"})
    agreement, gained = [line["agreement"] for line in less.values()], gains(less, usual)
    assert min(agreement) > LITTLE
    assert (
        f"({len(less)} clips, {min(less)} to {max(less)}) the agreement is {min(agreement):.2f} to {max(agreement):.2f}"
        in flat()
    )
    assert (
        f"they would move by {fmean(gained):+.2f} dB on average ({median(gained):+.2f} in the median)"
        in flat()
    )


def test_what_is_said_of_textures_that_were_taken_for_shapes():
    found = by_shares(range(72000, 72160), "texture")
    made = found[OURS]
    before = {clip: found[BEFORE][clip] for clip in made}
    gained = gains(made, before)
    asked = [sum(line["asked"] for line in lines_.values()) for lines_ in (made, before)]
    assert (
        f"Edited as if it were another shape, {len(made)} textures (72017 to 72112) move by "
        f"{fmean(gained):+.2f} dB on average ({median(gained):+.2f} in the median, {min(gained):+.2f} to "
        f"{max(gained):+.2f}), and what was "
        f"asked is found in {asked[0]:.0f} so and in {asked[1]:.0f} otherwise" in flat()
    )


def test_what_is_said_of_the_model_card():
    report = json.loads((DOCS.parent / "src/evenreel/weights/mini/report.json").read_text("utf-8"))
    rows = {row["name"]: row for row in report["figures"] if row["part"] == "editing, frame"}
    asked, shapes, kept = (
        rows[name] for name in ("asked for is there", "asked for: shape", "not asked for is kept")
    )
    found = round(shapes["value"] * shapes["count"] / 100)
    assert (
        f"what was asked is found in {asked['value']:.0f} of {asked['count']}, in all {found} whose shape was to "
        f"change, and {kept['value']:.1f}% of what was to be kept is" in flat()
    )
    made = {
        line["clip"]: line
        for line in SHAPES
        if line["clip"] in CARD and "shape" in line["change"] and line.get("default")
    }
    assert [clip for clip, line in made.items() if not line["asked"]] == [10030]
    (seen,) = (line["agreement"] for line in AGREEMENT if line["clip"] == 10030)
    assert 0.1 < seen < LITTLE
    earlier = {
        line["clip"]: line
        for line in lines("injection.jsonl")
        if line["frames"] == 8 and line["pnp_attn"] == 0.5 and line["clip"] in made
    }
    gained = gains({clip: made[clip] for clip in earlier}, earlier)
    outline = [fmean(one[clip]["outline"] for clip in earlier) for one in (earlier, made)]
    assert (
        f"Of the {len(earlier)} shapes of which there are lines of before, what was asked was found in "
        f"{sum(line['asked'] for line in earlier.values()):.0f}; the worst outline is {outline[1]:.2f} on average "
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
