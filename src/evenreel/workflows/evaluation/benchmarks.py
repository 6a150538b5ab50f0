"""The field's benchmarks, as their authors lay them out, turned into pairs to be measured.

Where each layout was seen is said at its reader, and for people in docs/metrics.md. Nothing is fetched.
"""

import csv
import io
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from evenreel.errors import ClipError, SettingsError, argument
from evenreel.video.images import SUFFIXES as IMAGE_SUFFIXES
from evenreel.video.images import natural_key
from evenreel.workflows.evaluation.pairs import VIDEO_SUFFIXES, Pair

Reader = Callable[[Path, Path], Iterable[Pair]]
"""From the benchmark's folder and that of the edits."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that can be read."""

    title: str
    read: Reader
    asks: bool
    """Whether it says which edits are to be made; else it is clips only, and those that have an edit are measured."""


def five(data: Path, edits: Path) -> Iterator[Pair]:
    """Read FiVE (arXiv:2503.13684): EDITS/VIDEO/SAVE_DIR, masks for every video.

    Seen in Harvard-AI-and-Robotics-Lab/FiVE-Bench, README.md (folders) and evaluation/evaluate.py (fields; brackets
    around the words that change are dropped, as there).
    """
    for file in _files(data, "edit_prompt/edit*_FiVE.json"):
        for row in _rows(_json(file), file):
            video, place = _name(row, "video_name", file), _name(row, "save_dir", file)
            source_prompt, prompt = (
                _text(row, field, file).replace("[", "").replace("]", "")
                for field in ("source_prompt", "target_prompt")
            )
            yield Pair(
                source=data / "images" / video,
                edit=_clip(edits / video / place),
                prompt=prompt,
                source_prompt=source_prompt,
                mask=data / "bmasks" / video,
            )


def v2vbench(data: Path, edits: Path) -> Iterator[Pair]:
    """Read V2VBench (arXiv:2407.07111): EDITS/VIDEO_ID/NUMBER, counted from 0; it gives no source prompts.

    Seen in wenhao728/awesome-diffusion-v2v, doc/README.md (the YAML file, names) and v2vbench/base_evaluator.py. Where
    the YAML file lies is the user's choice there; here it is beside the source videos.
    """
    import yaml

    for file in _files(data, "*.yaml"):
        try:
            loaded = yaml.safe_load(_read(file))
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise SettingsError(f"{file} cannot be read as YAML; fetch it again.") from error
        for row in _rows(loaded.get("data") if isinstance(loaded, dict) else None, file):
            video = _name(row, "video_id", file)
            for number, edit in enumerate(_rows(row.get("edit"), file)):
                yield Pair(
                    source=_clip(data / video),
                    edit=_clip(edits / video / str(number)),
                    prompt=_text(edit, "prompt", file),
                )


TGVE_PARTS = {
    "DAVIS Videos:": "DAVIS_480p",
    "Youtube Videos:": "youtube_480p",
    "Videvo Videos:": "videvo_480p",
}
"""Headings in the list of TGVE, and the folders of the videos below them."""
TGVE_EDITS = {kind: f"{kind.capitalize()} Change Caption" for kind in ("style", "object", "background")} | {
    "multiple": "Multiple Changes Caption"
}
"""Kinds of edits, and their columns."""


def tgve(data: Path, edits: Path) -> Iterator[Pair]:
    """Read LOVEU-TGVE-2023 (arXiv:2310.16003): EDITS/PART/VIDEO/{style,object,background,multiple}, as submissions
    were.

    Seen in showlab/loveu-tgve-2023, README.md (submissions) and scripts/create_configs.py (videos, columns); the list
    as CSV, with its headings, in the readers of others.
    """
    for file in _files(data, "LOVEU-TGVE-2023_Dataset.csv"):
        part = ""
        for row in csv.DictReader(io.StringIO(_read(file), newline=""), restkey=""):
            heading = (row.get("Video name") or "").strip()
            part = TGVE_PARTS.get(heading, part)
            if heading in TGVE_PARTS or not any(row.get(column) for column in TGVE_EDITS.values()):
                continue  # a heading, or an empty line between two parts
            video = _name(row, "Video name", file)
            if not part:
                raise SettingsError(
                    f"{file}: {video} comes before any of {', '.join(TGVE_PARTS)}; fetch it again."
                )
            for kind, column in TGVE_EDITS.items():
                yield Pair(
                    source=data / part / "480p_frames" / video,
                    edit=_clip(edits / part / video / kind),
                    prompt=_text(row, column, file),
                    source_prompt=_text(row, "Our GT caption", file),
                )


def davis(data: Path, edits: Path) -> Iterator[Pair]:
    """Read DAVIS 2016 or 2017 (davischallenge.org): EDITS/SEQUENCE; clips and masks, no prompts.

    Seen in the README.md of the package itself: JPEGImages and Annotations, at 480p and in full; 480p goes first. Where
    only the first frame is annotated (test sets) there is no mask: it would pass for one that holds for all frames.
    """
    if not (data / "JPEGImages").is_dir():
        raise SettingsError(f"{data} has no folder JPEGImages, which DAVIS has; give the folder that has it.")
    sizes = sorted(f.name for f in (data / "JPEGImages").iterdir() if f.is_dir())
    size = "480p" if "480p" in sizes else (sizes or ["480p"])[0]
    for source in _folders(data / "JPEGImages" / size):
        mask = data / "Annotations" / size / source.name
        yield Pair(
            source=source,
            edit=_clip(edits / source.name),
            mask=mask if _images(mask) == _images(source) else None,
        )


MSR_VTT_VIDEOS = ("TrainValVideo", "TestVideo")


def msr_vtt(data: Path, edits: Path) -> Iterator[Pair]:
    """Read MSR-VTT (Xu et al., CVPR 2016): EDITS/VIDEO_ID; the first caption listed describes the source.

    Seen in readers of others: `*videodatainfo*.json` with `sentences` (`video_id`, `caption`), videos in
    TrainValVideo and TestVideo. The lists may lie one folder deeper (train_val_annotation), as they were packed.
    """
    first: dict[str, str] = {}
    for file in _files(data, "*videodatainfo*.json", "*/*videodatainfo*.json"):
        found = _json(file)
        for row in _rows(found.get("sentences") if isinstance(found, dict) else None, file):
            first.setdefault(_name(row, "video_id", file), _text(row, "caption", file))
    for video in sorted(first, key=lambda name: natural_key(Path(name))):
        places = [data / folder / f"{video}.mp4" for folder in MSR_VTT_VIDEOS]
        source = next((place for place in places if place.is_file()), None)
        if source is not None:  # the lists name videos of both parts, of which one may be here
            yield Pair(source=source, edit=_clip(edits / video), source_prompt=first[video])


BENCHMARKS: Mapping[str, Benchmark] = {
    "five": Benchmark("FiVE", five, asks=True),
    "v2vbench": Benchmark("V2VBench", v2vbench, asks=True),
    "tgve": Benchmark("LOVEU-TGVE-2023", tgve, asks=True),
    "davis": Benchmark("DAVIS", davis, asks=False),
    "msr-vtt": Benchmark("MSR-VTT", msr_vtt, asks=False),
}


def read_benchmark(name: str, common: Pair) -> list[Pair]:
    """Return every edit of a benchmark, whether it has been made or not.

    `common` holds the benchmark's folder and that of the edits, and what is the same for all: frames, and a prompt
    where the benchmark has none. An edit is a clip or a folder of images; where none is, the path ends in .mp4.
    Raises SettingsError for an unknown name, or a folder that is not laid out as the benchmark is.
    """
    benchmark = BENCHMARKS.get(name)
    if benchmark is None:
        raise SettingsError(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}.")
    if benchmark.asks and common.prompt is not None:
        raise SettingsError(f"{benchmark.title} has prompts of its own; leave out {argument('prompt')}.")
    found, places = [], set()
    for pair in benchmark.read(common.source, common.edit):
        if pair.edit in places:
            raise SettingsError(
                f"{benchmark.title} in {common.source} asks for two edits in the one place {pair.edit}; "
                "give them places of their own."
            )
        places.add(pair.edit)
        prompts = {"prompt": pair.prompt or common.prompt, "source_prompt": pair.source_prompt}
        if common.source_prompt is not None:
            prompts["source_prompt"] = common.source_prompt
        found.append(replace(pair, frames=common.frames, **prompts))
    if not found:
        raise SettingsError(f"{common.source} holds no clip of {benchmark.title}; see docs/metrics.md.")
    return found


def to_measure(name: str, pairs: list[Pair]) -> tuple[list[Pair], list[str]]:
    """Return the pairs that count, and a sentence on those that do not.

    Where the benchmark says which edits are to be made all count, so that one that was never made is a failure.
    """
    if BENCHMARKS[name].asks:
        return pairs, []
    made = [pair for pair in pairs if pair.edit.exists()]
    if not made:
        raise ClipError(
            f"none of {len(pairs)} clips of {BENCHMARKS[name].title} has an edit, as {pairs[0].edit} would be."
        )
    left = len(pairs) - len(made)
    return made, [f"{left} of {len(pairs)} clips have no edit"] if left else []


def commands(pairs: Iterable[Pair]) -> Iterator[str]:
    """Yield a line for a shell for each edit that has not been made. Raises SettingsError where no prompt is known."""
    for pair in pairs:
        if pair.edit.exists():
            continue
        if not pair.prompt:
            raise SettingsError(
                f"the benchmark says not what {pair.source.name} is to become; give {argument('prompt')}."
            )
        words = ["evenreel", "edit", str(pair.source), f"--prompt={pair.prompt}"]
        if pair.source_prompt:
            words.append(f"--source-prompt={pair.source_prompt}")
        if pair.frames is not None:
            start, end = pair.frames
            words.append(f"--frames={start}:{'' if end is None else end}")
        folder = shlex.join(["mkdir", "-p", str(pair.edit.parent)])
        yield f"{folder} && {shlex.join([*words, '--out', str(pair.edit)])}"


def _clip(path: Path) -> Path:
    """A folder of images, or a video of this name; where there is neither, as `evenreel edit` would write it."""
    files = [path.with_name(path.name + suffix) for suffix in sorted(VIDEO_SUFFIXES)]
    found = [place for place in (path, *files) if place.exists()]
    if len(found) > 1:
        raise ClipError(f"{found[0]} and {found[1].name} are one clip twice; keep one of them.")
    return found[0] if found else path.with_name(path.name + ".mp4")


def _files(data: Path, *patterns: str) -> list[Path]:
    found = sorted({file for pattern in patterns for file in data.glob(pattern)}, key=natural_key)
    if not found:
        raise SettingsError(f"{data} holds no {patterns[0]}; give the benchmark's folder, unpacked.")
    return found


def _folders(parent: Path) -> list[Path]:
    return sorted((f for f in parent.iterdir() if f.is_dir()), key=natural_key) if parent.is_dir() else []


def _images(folder: Path) -> int:
    return sum(f.suffix.lower() in IMAGE_SUFFIXES for f in folder.iterdir()) if folder.is_dir() else 0


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise SettingsError(f"{file} cannot be read ({reason}); fetch it again.") from error


def _json(file: Path) -> Any:
    try:
        return json.loads(_read(file))
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{file} cannot be read as JSON; fetch it again.") from error


def _rows(found: Any, file: Path) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise SettingsError(f"{file} does not list what it should; fetch it again.")
    return found


def _text(row: Mapping[str, Any], field: str, file: Path) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"{file}: {field} must be text, got {value!r}; fetch it again.")
    return value.strip()


def _name(row: Mapping[str, Any], field: str, file: Path) -> str:
    """Text that names something below a folder, and nothing outside it."""
    name = _text(row, field, file)
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise SettingsError(f"{file}: {field} must be a name, got {name!r}.")
    return name
