"""Pictures in a terminal that can show them, in kitty's way or in iTerm2's; nothing elsewhere.

kitty: https://sw.kovidgoyal.net/kitty/graphics-protocol, iTerm2: https://iterm2.com/documentation-images.html.
"""

import io
import os
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment

from evenreel.errors import EvenreelError
from evenreel.progress import Progress

ROWS = 8
"""Height of a picture, in lines of text."""
SECONDS, MOST = 5.0, 4
"""Seconds from one preview of an edit to the next, and how many are shown at most."""
STRIP = 300
"""Frames of a result, from its beginning, that its film strip is made of at most."""
COLUMNS = 6
"""Frames in it."""
_CHUNK = 4096
"""Characters that kitty takes at once."""


def way(is_terminal: bool, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return how a terminal shows pictures: `kitty`, `iterm2`, or None where it cannot."""
    told = {name: environment.get(name, "") for name in ("TERM", "TERM_PROGRAM", "LC_TERMINAL")}
    if not is_terminal or environment.get("TMUX") or told["TERM"].startswith(("screen", "tmux", "dumb")):
        return None
    if told["TERM"] in ("xterm-kitty", "xterm-ghostty") or environment.get("KITTY_WINDOW_ID"):
        return "kitty"
    iterm2 = "iTerm2" in told["LC_TERMINAL"] or told["TERM_PROGRAM"] in ("iTerm.app", "WezTerm", "mintty")
    return "iterm2" if iterm2 else None


def drawn(png: bytes, way: str) -> str:
    """Return the characters that draw a PNG where the cursor is, ROWS lines high, and go on in the line below."""
    data = b64encode(png).decode("ascii")
    if way == "iterm2":
        told = f"inline=1;size={len(png)};height={ROWS};preserveAspectRatio=1"
        return f"\x1b]1337;File={told}:{data}\x07\r\n"
    pieces = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    heads = [f"a=T,f=100,q=2,r={ROWS},", *[""] * (len(pieces) - 1)]
    last = len(pieces) - 1
    return (
        "".join(
            f"\x1b_G{head}m={int(number < last)};{piece}\x1b\\"
            for number, (head, piece) in enumerate(zip(heads, pieces, strict=True))
        )
        + "\r\n"
    )


class Drawing:
    """A picture that rich prints as it is, above bars that move."""

    def __init__(self, characters: str) -> None:
        self.characters = characters

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the characters as a control sequence, which has no width."""
        del console, options
        yield Segment(self.characters, None, [])


class Previews:
    """Passes progress on, and now and then prints what the edit looks like by then."""

    def __init__(self, told: Progress, console: Console, way: str, latest: Callable[[], Path | None]) -> None:
        self.told, self.console, self.way, self.latest = told, console, way, latest
        self.shown, self.next, self.seen = 0, time.monotonic() + SECONDS, 0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Move on, and look for another picture."""
        from PIL import Image

        self.told(stage, done, total)
        if self.shown == MOST or time.monotonic() < self.next:
            return
        self.next = time.monotonic() + SECONDS
        path = self.latest()
        if path is None or not path.is_file() or path.stat().st_mtime_ns == self.seen:
            return
        self.seen, self.shown = path.stat().st_mtime_ns, self.shown + 1
        with Image.open(path) as picture, io.BytesIO() as png:
            picture.save(png, format="PNG")
            self.console.print(Drawing(drawn(png.getvalue(), self.way)))


def preview_of(output: Path, job: str) -> Callable[[], Path | None]:
    """Return what finds the picture of an edit under way, by its output and its `--job`."""
    from evenreel.jobs.job import PREVIEW, all_jobs

    def latest() -> Path | None:
        if job not in ("auto", "off"):
            return Path(job) / PREVIEW
        mine = [one for one in all_jobs() if Path(one.state.task.output) == output.absolute()]
        return next((one.folder / PREVIEW for one in mine if one.state.status == "running"), None)

    return latest


def strip_of(path: Path, count: int, way: str) -> str:
    """Return what draws a film strip of a result of `count` frames, and nothing where that cannot be read."""
    import torch

    from evenreel.video import open_clip
    from evenreel.video.strip import sheet

    last = min(count, STRIP) - 1
    wanted = sorted({round(number * last / (COLUMNS - 1)) for number in range(COLUMNS)})
    try:
        stream = enumerate(frame for pixels, _ in open_clip(path, 0, last + 1) for frame in pixels)
        frames = torch.stack([frame.clone() for number, frame in stream if number in wanted])
    except EvenreelError:
        return ""
    with io.BytesIO() as png:
        sheet([frames], [path.name], columns=COLUMNS).save(png, format="PNG")
        return drawn(png.getvalue(), way)
