"""Mutated files are tried until time is up: each is read, or is one sentence of an EvenreelError, soon.

Whatever else comes of one is kept, made as small as it can be, and tried again first the next time. Seeded: half a
minute for all kinds together in the default run; `./scripts/fuzz --minutes 30` goes on for as long, elsewhere.
"""

import hashlib
import os
import random
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from evenreel.errors import EvenreelError
from fuzz.mutation import Mutation

SECONDS = float(os.environ.get("EVENREEL_FUZZ_SECONDS", "30"))
"""For all kinds together."""
SEED = int(os.environ.get("EVENREEL_FUZZ_SEED", "0"))
FOUND = Path(__file__).parent / "found"
"""What did not end well once: KIND-HASH.SUFFIX."""
KEEP = Path(os.environ["EVENREEL_FUZZ_KEEP"]) if "EVENREEL_FUZZ_KEEP" in os.environ else None
"""Where what is found now goes; the temporary folder of the test by default."""
PATIENCE = 20.0
"""Seconds of the processor for one file, which a busy machine does not stretch."""
TRIES = 300
"""To make a file smaller."""


@dataclass(frozen=True)
class Reader:
    """One kind of file."""

    path: Path
    """A whole one; it is changed, and put back."""
    read: Callable[[Path], object]
    """What must not fail otherwise than by an error of `errors`."""
    mutations: tuple[Mutation, ...]
    errors: type[EvenreelError] | tuple[type[EvenreelError], ...] = EvenreelError
    same: Callable[[object], object] | None = None
    """For files that know their own content: of what `read` returned, what must never change in silence."""


class SlowError(Exception):
    """Reading took too long."""


class SilentlyDifferentError(Exception):
    """A file was read without a word, and held something else than the whole one."""


def hunt(kind: str, reader: Reader, seconds: float, folder: Path) -> int:
    """Try one kind for some seconds; returns how many files were refused. Fails with all that was found."""
    whole = reader.path.read_bytes()
    draw = random.Random(f"{SEED} {kind}")
    deadline, refused, found = time.monotonic() + seconds, 0, {}
    try:
        if reader.same is not None:
            wanted = reader.same(reader.read(reader.path))
            reader = replace(reader, read=_watched(reader, wanted))
        refusal = _outcome(reader, whole)
        assert refusal is None, f"{kind}: the whole file is refused: {refusal!r}"
        kept = [path.read_bytes() for path in sorted(FOUND.glob(f"{_plain(kind)}-*{reader.path.suffix}"))]
        for number, content in enumerate(_inputs(draw, whole, kept, reader)):
            if number >= len(kept) + 5 and time.monotonic() > deadline:
                break
            outcome = _outcome(reader, content)
            refused += isinstance(outcome, EvenreelError)
            if outcome is not None and not _is_fine(outcome, reader):
                found.setdefault(_signature(outcome), (content, outcome))
        written = [_kept(kind, reader, whole, *each, folder) for each in found.values()]
    finally:
        reader.path.write_bytes(whole)
    assert not written, "\n\n".join(written)
    return refused


def _inputs(draw: random.Random, whole: bytes, kept: list[bytes], reader: Reader) -> Iterator[bytes]:
    yield from kept
    while True:
        content = draw.choice(reader.mutations)(draw, whole)
        while draw.random() < 0.2:
            with_another = draw.choice(reader.mutations)
            try:
                content = with_another(draw, content)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
                break  # no longer what that one can change
        yield content


def _watched(reader: Reader, wanted: object) -> Callable[[Path], object]:
    def read(path: Path) -> None:
        assert reader.same is not None
        found = reader.same(reader.read(path))
        if found != wanted:
            raise SilentlyDifferentError

    return read


def _outcome(reader: Reader, content: bytes) -> BaseException | None:
    reader.path.write_bytes(content)
    try:
        with _patient(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(reader.path)
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    return None


def _is_fine(outcome: BaseException, reader: Reader) -> bool:
    """Whether it is an error for users, one sentence on one line."""
    said = str(outcome)
    return isinstance(outcome, reader.errors) and said.endswith(".") and "\n" not in said and len(said) < 2000


@contextmanager
def _patient() -> Iterator[None]:
    """Raise SlowError inside where that takes too long, on systems that can."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def late(*_: object) -> None:
        raise SlowError

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _signature(outcome: BaseException) -> tuple[object, ...]:
    """What failures of one cause have in common."""
    places = traceback.extract_tb(outcome.__traceback__)
    ours = [place for place in places if "evenreel" in Path(place.filename).parts] or list(places)
    return (type(outcome), ours[-1].filename, ours[-1].lineno) if ours else (type(outcome),)


def _kept(
    kind: str, reader: Reader, whole: bytes, content: bytes, outcome: BaseException, folder: Path
) -> str:
    """Put a file that does not end well, made smaller, where it is found again; returns what is to be known of it."""
    content = smaller(
        whole,
        content,
        lambda one: (o := _outcome(reader, one)) is not None and _signature(o) == _signature(outcome),
    )
    digest = hashlib.sha256(content).hexdigest()[:8]
    path = (KEEP or folder) / f"{_plain(kind)}-{digest}{reader.path.suffix}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    told = "".join(traceback.format_exception(outcome, limit=-6))
    return f"{kind}, seed {SEED}, kept as {path}: {content[:300]!r}\n{told}"


def smaller(whole: bytes, content: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """A file that still fails, nearer to the whole one where both are as long, else shorter."""
    tries, size = 0, max(1, len(content) // 2)
    while size and tries < TRIES:
        at = 0
        while at < len(content) and tries < TRIES:
            if len(whole) == len(content):
                other = content[:at] + whole[at : at + size] + content[at + size :]
            else:
                other = content[:at] + content[at + size :]
            if other != content:
                tries += 1
                if fails(other):
                    content = other
                    continue
            at += size
        size //= 2
    return content


def _plain(kind: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in kind)
