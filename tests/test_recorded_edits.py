"""What docs/motion.md says of whole edits is what its recorded lines say."""

import json
from pathlib import Path
from statistics import fmean, median

DOCS = Path(__file__).parents[1] / "docs"
LINES = [json.loads(line) for line in (DOCS / "edits" / "edits.jsonl").read_text("utf-8").splitlines()]
FIGURES = (
    "asked, %",
    "kept, %",
    "truth PSNR, dB",
    "object's",
    "object's warp error, times the answer's",
    "ring's (median)",
    "object's IoU along its motion",
)
BROKEN = 0.88
"""Share of a star's outline below which a frame's star has not five whole arms."""
STILL = 1e-6
"""Warp error of the right answer below which nothing moves."""


def of_row(row):
    return {line["clip"]: line for line in LINES if line["row"] == row}


def times_the_answer(line, part):
    name = f"{part}_warp_error"
    ours, answers = line[name], line["answer"][name]
    return None if ours is None or answers is None or answers < STILL else ours / answers


def known(values):
    return [value for value in values if value is not None]


def both(values, decimals):
    return f"{fmean(known(values)):.{decimals}f}, {median(known(values)):.{decimals}f}"


def table():
    """Means and medians; each row over the clips that all rows have."""
    rows = list(dict.fromkeys(line["row"] for line in LINES))
    clips = set.intersection(*(set(of_row(row)) for row in rows))
    yield f"| edit | clips | {' | '.join(FIGURES)} |"
    yield "|---" * (len(FIGURES) + 2) + "|"
    for row in rows:
        lines = [line for clip, line in of_row(row).items() if clip in clips]
        cells = [
            f"{fmean(100 * line['asked'] for line in lines):.0f}",
            f"{fmean(100 * line['kept'] for line in lines):.0f}",
            both([line["truth_psnr"] for line in lines], 1),
            both([line["object_truth_psnr"] for line in lines], 1),
            both([times_the_answer(line, "object") for line in lines], 1),
            f"{median(known([times_the_answer(line, 'ring') for line in lines])):.1f}",
            both([line["object_motion_iou"] for line in lines], 2),
        ]
        yield f"| {row} | {len(lines)} | {' | '.join(cells)} |"


def test_the_table_is_that_of_the_lines():
    page = (DOCS / "motion.md").read_text(encoding="utf-8")
    for line in table():
        assert line in page


def test_every_clip_of_one_row_is_in_the_others():
    clips = [set(of_row(row)) for row in dict.fromkeys(line["row"] for line in LINES)]
    assert len(clips) > 1
    assert all(one == clips[0] for one in clips)


def test_clips_are_not_those_that_defaults_were_chosen_on():
    assert all(50_000 <= line["clip"] < 60_000 for line in LINES)


def test_what_is_said_of_clips_in_words():
    quick, ours, _, exact_anew, off, before = (
        of_row(row) for row in dict.fromkeys(line["row"] for line in LINES)
    )
    nearer = [
        sum(line["truth_psnr"] > before[clip]["truth_psnr"] for clip, line in row.items())
        for row in (quick, ours)
    ]
    known_ratios = {clip: times_the_answer(line, "object") for clip, line in quick.items()}
    most = sorted(clip for clip, ratio in known_ratios.items() if ratio > 3.05)
    sizes = [clip for clip in most if "shape" in quick[clip]["change"]]
    seconds = [median(line["seconds"] for line in row.values()) for row in (off, before)]
    kept = [line["truth_psnr"] - off[clip]["truth_psnr"] for clip, line in exact_anew.items()]
    some = [gain for gain in kept if abs(gain) > 1e-4]
    page = " ".join((DOCS / "motion.md").read_text(encoding="utf-8").split())
    than_before = (
        f"nearer to the right answer in {nearer[0]} of {len(ours)} clips ({nearer[1]} with `--exact`)"
    )
    assert than_before in page
    least, largest = f"{min(some):.2f}", f"{max(some):.2f}"
    left = (
        f"left a part of {len(some)} of them to the source, by which these are {least} to {largest} dB nearer"
    )
    assert left in page
    changes = [line["truth_psnr"] - ours[clip]["truth_psnr"] for clip, line in quick.items()]
    spread = f"{median(changes):+.2f} in the median, {min(changes):+.2f} to {max(changes):+.2f}"
    told = f"{fmean(changes):+.2f} dB on average ({spread})"
    performance = " ".join((DOCS / "performance.md").read_text(encoding="utf-8").split())
    assert told in page
    assert told in performance
    assert f"{len(most)} clips, in all of which the shape was to change" in page
    assert most == sizes
    assert f"{seconds[0]:.0f} s of one busy core against {seconds[1]:.0f}" in page


def test_what_is_said_of_noise_in_pairs():
    by_row: dict[str, list] = {}
    for text in (DOCS / "edits" / "noise.jsonl").read_text("utf-8").splitlines():
        line = json.loads(text)
        by_row.setdefault(line["row"], []).append(line)
    pairs, anew, sixteen = (
        by_row[f"noise {way}"] for way in ("in pairs", "drawn anew", "in pairs, 16 steps")
    )
    quick, held_out_anew = (of_row(row) for row in list(dict.fromkeys(line["row"] for line in LINES))[:3:2])

    def broken(lines):
        return sum(min(line["outlines"]) < BROKEN for line in lines)

    def worst(lines):
        return median(min(line["outlines"]) for line in lines)

    page = " ".join((DOCS / "motion.md").read_text(encoding="utf-8").split())
    assert len(pairs) == len(anew)
    assert (
        f"with {broken(anew)} of {len(anew)} seeds a frame's star has an arm too many or too few "
        f"(less than {BROKEN} of the outline; the worst frame has {worst(anew):.2f} in the median)" in page
    )
    assert f"in pairs with {broken(pairs)} of {len(pairs)} ({worst(pairs):.2f})" in page
    assert f"With 16 steps {broken(sixteen)} of {len(sixteen)} seeds break one in pairs" in page
    gains = [line["truth_psnr"] - held_out_anew[clip]["truth_psnr"] for clip, line in quick.items()]
    steadier = sum(
        line["object_warp_error"] < held_out_anew[clip]["object_warp_error"] for clip, line in quick.items()
    )
    assert (
        f"nearer in {sum(gain > 0 for gain in gains)} of {len(gains)}, {fmean(gains):+.2f} dB on average "
        f"({median(gains):+.2f} in the median, {min(gains):+.2f} to {max(gains):+.2f}); "
        f"the object's warp error falls in {steadier}" in page
    )


def test_what_is_said_of_less_attention_from_the_source():
    by_clip: dict[tuple, dict[float, dict]] = {}
    for text in (DOCS / "edits" / "injection.jsonl").read_text("utf-8").splitlines():
        line = json.loads(text)
        by_clip.setdefault((line["frames"], line["clip"], line.get("seed")), {})[line["pnp_attn"]] = line

    def found(frames, other):
        """How many clips have both shares, in how many each finds the shape asked for, and what the other gains."""
        pairs = [
            (told[0.5], told[other])
            for (length, _, _), told in by_clip.items()
            if length == frames and {0.5, other} <= set(told) and "shape" in told[0.5]["change"]
        ]
        gains = [other["truth_psnr"] - ours["truth_psnr"] for ours, other in pairs]
        return len(pairs), *(sum(pair[side]["asked"] for pair in pairs) for side in (0, 1)), gains

    count, ours, less, _ = found(8, 0.3)
    some, ours_of_some, least, gains = found(8, 0.15)
    short, ours_of_short, less_of_short, _ = found(4, 0.3)
    demo = [told for (_, clip, _), told in by_clip.items() if clip == "demo"]
    worst = {share: [told[share]["outline"] for told in demo if share in told] for share in (0.3, 0.5)}
    page = " ".join((DOCS / "motion.md").read_text(encoding="utf-8").split())
    assert (
        f"in {ours} of {count} with `pnp_attn=0.5`, the default, and in {less} with 0.3; of {some} of them in "
        f"{ours_of_some} with 0.5 and in {least} with 0.15, at {median(gains):+.2f} dB in the median "
        f"({fmean(gains):+.2f} on average)" in page
    )
    assert f"in {ours_of_short} of {short} with 0.5, and in {less_of_short} with 0.3" in page
    assert [sum(value < 0.87 for value in worst[share]) for share in (0.3, 0.5)] == [1, 0]
    assert (len(worst[0.3]), len(worst[0.5])) == (5, 3)
    assert f"({min(worst[0.3]):.2f} of the outline)" in page


def test_what_docs_inversions_says_of_noise_in_other_hosts():
    lines = map(json.loads, (DOCS / "edits" / "noise-hosts.jsonl").read_text("utf-8").splitlines())
    by_way = {(line["noise"], line["host"], line["clip"]): line["truth_psnr"] for line in lines}
    gains = [
        psnr - by_way["drawn anew", host, clip]
        for (noise, host, clip), psnr in by_way.items()
        if noise == "in pairs"
    ]
    page = " ".join((DOCS / "inversions.md").read_text(encoding="utf-8").split())
    assert (
        f"nearer in {sum(gain > 0 for gain in gains)} of {len(gains)} pairs, {fmean(gains):+.2f} dB on average "
        f"({median(gains):+.2f} in the median, {min(gains):+.2f} to {max(gains):+.2f})" in page
    )


def test_what_docs_inversions_says_of_edits_with_fixed_point():
    lines = map(json.loads, (DOCS / "edits" / "fixed-point.jsonl").read_text("utf-8").splitlines())
    by_way = {(line["inversion"], line["host"], line["clip"]): line for line in lines}
    pairs = [
        (line, by_way["ddim", host, clip])
        for (way, host, clip), line in by_way.items()
        if way == "fixed-point"
    ]
    assert len({line["clip"] for line, _ in pairs}) == 12
    gains = [line["truth_psnr"] - other["truth_psnr"] for line, other in pairs]
    less_steady = sum(line["object_warp_error"] > other["object_warp_error"] for line, other in pairs)
    page = " ".join((DOCS / "inversions.md").read_text(encoding="utf-8").split())
    assert (
        f"nearer to the right answer in {sum(gain > 0 for gain in gains)} of {len(gains)} pairs, "
        f"{fmean(gains):+.2f} dB on average ({median(gains):+.2f} in the median, {min(gains):+.2f} to "
        f"{max(gains):+.2f}), and the object's warp error is larger in {less_steady}" in page
    )
    ways: dict[tuple[str, str], list[dict[str, float]]] = {}
    for (way, host, _), line in by_way.items():
        ways.setdefault((host, way), []).append(line)
    assert {len(some) for some in ways.values()} == {12}
    for (host, way), some in ways.items():
        name = "`frame` with motion modules (the default)" if host == "frame, motion modules" else f"`{host}`"
        psnr = [line["truth_psnr"] for line in some]
        figures = (
            f"{fmean(psnr):.1f}, {median(psnr):.1f} | {fmean(line['object_truth_psnr'] for line in some):.1f} | "
            f"{1e3 * median(line['object_warp_error'] for line in some):.1f} | "
            f"{100 * fmean(line['asked'] for line in some):.0f} |"
        )
        assert f"| {name} | `{way}` | {figures}" in page


def test_what_docs_inversions_says_of_hosts():
    lines = [
        json.loads(line)
        for line in (DOCS / "edits" / "inversions.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    by_way = {(line["host"], line["clip"], line["inversion"]): line for line in lines}
    page = " ".join((DOCS / "inversions.md").read_text(encoding="utf-8").split())
    gains: dict[str, list[float]] = {}
    for (host, clip, inversion), line in by_way.items():
        if inversion == "flow-edit":
            other = by_way[host, clip, "fixed-point"]
            gains.setdefault(host, []).append(line["truth_psnr"] - other["truth_psnr"])
    every = [gain for some in gains.values() for gain in some]
    assert f"nearer to the right answer in {sum(gain > 0 for gain in every)} of {len(every)} pairs" in page
    for host, some in gains.items():
        assert f"`{host}` {fmean(some):.1f}" in page
    beside = [
        line["truth_psnr"] - by_way[host, clip, "flow-edit"]["truth_psnr"]
        for (host, clip, inversion), line in by_way.items()
        if inversion == "flow-edit, beside"
    ]
    assert (
        f"nearer in {sum(gain > 0 for gain in beside)} of {len(beside)} pairs, by {fmean(beside):.2f} dB on average "
        f"({median(beside):.2f} in the median) and at worst {-min(beside):.2f} dB farther" in page
    )


def test_what_docs_adapter_says_of_the_one_that_is_not_packaged():
    lines = [json.loads(line) for line in (DOCS / "edits" / "adapter.jsonl").read_text("utf-8").splitlines()]
    errors = [1 - line["with"] / line["without"] for line in lines if "training_error" in line]
    ways = [
        {line["clip"]: line for line in lines if line.get("adapter", 0) == scale} for scale in (None, 1.0)
    ]
    gains = [ways[1][clip]["truth_psnr"] - line["truth_psnr"] for clip, line in ways[0].items()]
    paler = [ways[1][clip]["saturation_ratio"] < line["saturation_ratio"] for clip, line in ways[0].items()]
    page = " ".join((DOCS / "adapter.md").read_text(encoding="utf-8").split())
    assert f"by {100 * min(errors):.0f} to {100 * max(errors):.0f}%" in page
    assert sorted(ways[0]) == [60_003, 60_004, 60_005, 60_006]
    nearer = sum(gain > 0 for gain in gains)
    assert f"{nearer} are nearer to the right answer and {len(gains) - nearer} farther" in page
    assert f"by {fmean(gains):.2f} dB on average ({median(gains):.2f} in the median)" in page
    assert f"in {sum(paler)} of the 4 colours are paler" in page


def test_what_docs_motion_says_of_verbs():
    lines = [json.loads(line) for line in (DOCS / "edits" / "verbs.jsonl").read_text("utf-8").splitlines()]
    page = (DOCS / "motion.md").read_text(encoding="utf-8")
    for model, timestep in dict.fromkeys((line["model"], line["timestep"]) for line in lines):
        mine = [line for line in lines if (line["model"], line["timestep"]) == (model, timestep)]
        costs = [100 * (line["wrong"] / line["right"] - 1) for line in mine]
        error = 1000 * fmean(line["right"] for line in mine)
        worse = f"{sum(cost > 0 for cost in costs)} of {len(costs)}"
        cells = f"{error:.2f} | {fmean(costs):+.2f}, {median(costs):+.2f} | {worse}"
        assert f"| {model} | {timestep} | {cells} |" in page


def test_what_docs_hosts_says_of_the_packaged_control():
    page = (DOCS / "hosts.md").read_text(encoding="utf-8")
    for text in (DOCS / "edits" / "control.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        for kind in ("depth", "canny", "pose"):
            cells = (line["count"], line[kind], line[f"{kind} without"], line[f"{kind} other map"])
            assert f"| `mini-{kind}` | {' | '.join(map(str, cells))} |" in page


def test_what_docs_clips_says_of_cuts():
    lines = [json.loads(line) for line in (DOCS / "edits" / "cuts.jsonl").read_text("utf-8").splitlines()]
    cuts, *others = lines
    page = " ".join((DOCS / "clips.md").read_text(encoding="utf-8").split())
    assert f"Of {cuts['clips']} cuts between scenes of the rendered world {cuts['found']} are found" in page
    fades, flashes, scenes = (line["clips"] for line in others)
    wrong = sum(line["wrong"] for line in lines)
    told = f"of {fades} dissolves, {flashes} flashes and {scenes} scenes that do not cut {wrong} are taken for cuts"
    assert told in page


def nearer(lines):
    return [line["any_size_psnr"] - line["truth_psnr"] for line in lines]


def test_what_docs_motion_says_of_answers_of_any_size():
    page = " ".join((DOCS / "motion.md").read_text(encoding="utf-8").split())
    lines = [json.loads(line) for line in (DOCS / "edits" / "any-size.jsonl").read_text("utf-8").splitlines()]
    twelve = [line for line in lines if line["frames"] == 16]
    assert [line["clip"] for line in twelve] == list(range(50000, 50012))
    against = [
        f"{fmean(line[name] for line in twelve):.1f} dB on average ({median(line[name] for line in twelve):.1f} in the "
        "median)"
        for name in ("truth_psnr", "any_size_psnr")
    ]
    assert f"against the one answer {against[0]}, against the nearest {against[1]}" in page
    shapes = [line for line in twelve if "shape" in line["change"]]
    assert not any(nearer([line for line in twelve if line not in shapes]))
    for made, said in (
        (nearer(shapes), f"The {len(shapes)} whose shape changes"),
        (None, "the sources themselves"),
    ):
        gained = made or nearer([line["source"] for line in shapes])
        told = f"come nearer by {min(gained):.1f} to {max(gained):.1f} dB, {fmean(gained):.1f} on average"
        assert f"{said} {told}" in page


def test_what_docs_motion_says_of_twenty_shapes():
    page = " ".join((DOCS / "motion.md").read_text(encoding="utf-8").split())
    lines = [json.loads(line) for line in (DOCS / "edits" / "any-size.jsonl").read_text("utf-8").splitlines()]
    twenty = [line for line in lines if line["frames"] == 8]
    assert [line["clip"] for line in twenty] == list(range(75000, 75100, 5))
    assert [line["clip"] for line in twenty if not line["asked"]] == [75040]
    mean = {
        name: fmean(line[name] for line in twenty)
        for name in ("kept", "outline", "truth_psnr", "any_size_psnr")
    }
    of_answer = [line["areas"]["edit"] / line["areas"]["answer"] for line in twenty]
    smaller = sum(one < 1 for one in of_answer)
    assert f"smaller than that in {smaller}, in the median {median(of_answer):.2f} of its area" in page
    found = f"{sum(line['asked'] for line in twenty):.0f}"
    assert (
        f"what was asked is found in {found} (75040 shows a triangle that the judge "
        f"does not take for one), {100 * mean['kept']:.0f}% of what was to be kept is, and the worst outline is "
        f"{mean['outline']:.2f} on average" in page
    )
    assert (
        f"They are {mean['truth_psnr']:.1f} dB from the right answer, and {mean['any_size_psnr']:.1f} from the nearest "
        "of any size" in page
    )
