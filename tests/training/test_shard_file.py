"""Shards: WebDataset reads them as they are, and hostile or damaged ones are refused by their headers."""

import io
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webdataset import tariterators

from evenreel.errors import DataError
from evenreel.training.data.shard_file import ShardWriter, indexed

SUFFIXES = ("json", "0.png", "1.png")
SAMPLES = {
    f"c{i:06d}-g00000": {"json": b"{}", "0.png": bytes(range(i + 1)), "1.png": b"y" * 512 * i}
    for i in range(5)
}


def write(path: Path, samples=SAMPLES) -> Path:
    with path.open("wb") as file:
        writer = ShardWriter(file)
        for key, members in samples.items():
            writer.write(key, members)
        writer.finish()
    return path


with tempfile.TemporaryDirectory() as _folder:
    WHOLE = write(Path(_folder) / "a.tar").read_bytes()


def test_samples_come_back(tmp_path):
    index = indexed(write(tmp_path / "a.tar"), SUFFIXES)
    assert index.keys == tuple(SAMPLES)
    assert [index.read(row) for row in range(5)] == list(SAMPLES.values())
    assert write(tmp_path / "b.tar").read_bytes() == (tmp_path / "a.tar").read_bytes()


def test_they_are_ordinary_tar_files(tmp_path):
    path = write(tmp_path / "a.tar")
    with tarfile.open(path) as tar:
        assert [entry.name for entry in tar][:3] == [f"c000000-g00000.{s}" for s in sorted(SUFFIXES)]
        assert all(entry.mtime == 0 and entry.uname == "" for entry in tar)
    assert path.stat().st_size % 10240 == 0


def test_webdataset_reads_them(tmp_path):
    path = write(tmp_path / "a.tar")
    with path.open("rb") as file:
        files = tariterators.tar_file_expander([{"url": str(path), "stream": file}])
        found = list(tariterators.group_by_keys(files))
    assert [sample.pop("__key__") for sample in found] == list(SAMPLES)
    for sample, wanted in zip(found, SAMPLES.values(), strict=True):
        assert {name: data for name, data in sample.items() if name[0] != "_"} == wanted


def test_what_was_written_since_the_mark_can_be_taken_back(tmp_path):
    with (tmp_path / "a.tar").open("wb") as file:
        writer = ShardWriter(file)
        for number, (key, members) in enumerate(SAMPLES.items()):
            writer.mark()
            writer.write(key, members)
            if number == 2:
                writer.write("extra", members)
                writer.take_back()
        writer.finish()
    kept = {key: members for number, (key, members) in enumerate(SAMPLES.items()) if number != 2}
    assert (tmp_path / "a.tar").read_bytes() == write(tmp_path / "b.tar", kept).read_bytes()


def test_an_empty_shard(tmp_path):
    assert indexed(write(tmp_path / "a.tar", {}), SUFFIXES).keys == ()


def hostile(path: Path, name: str, kind: bytes = tarfile.REGTYPE, **details) -> Path:
    """A good shard with one more member."""
    write(path)
    with tarfile.open(path, "a", format=details.pop("format", tarfile.USTAR_FORMAT)) as tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.size = kind, 4 if kind == tarfile.REGTYPE else 0
        for field, value in details.items():
            setattr(entry, field, value)
        tar.addfile(entry, io.BytesIO(b"evil") if kind == tarfile.REGTYPE else None)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/cron.d/x.json",
        "/etc/passwd.json",
        "folder/c000009-g00000.json",
        "..json",
        "c000009-g00000.pyd",
        "c000009-g00000.pkl",
        "c000009-g00000.pickle",
        "c000009-g00000.0.pth",
        "c000009-g00000",
        "c000009-g00000.json.gz",
        "__meta__.json/x",
        "pipe:touch x.json",
        "c☃.json",
    ],
)
def test_hostile_names_are_refused(name, tmp_path):
    with pytest.raises(DataError, match="which is not part of a sample") as caught:
        indexed(hostile(tmp_path / "a.tar", name), SUFFIXES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"S", b"z"]
)
def test_what_is_no_plain_file_is_refused(kind, tmp_path):
    path = hostile(tmp_path / "a.tar", "c000009-g00000.json", kind, linkname="/etc/passwd")
    with pytest.raises(DataError, match="which is not a plain file"):
        indexed(path, SUFFIXES)


@pytest.mark.parametrize(
    "details",
    [
        {"format": tarfile.PAX_FORMAT, "pax_headers": {"path": "../x.json"}},
        {"format": tarfile.GNU_FORMAT, "linkname": "x" * 200},
    ],
)
def test_extended_headers_are_refused(details, tmp_path):
    with pytest.raises(DataError, match="which is not a plain file"):
        indexed(hostile(tmp_path / "a.tar", "c000009-g00000.json", **details), SUFFIXES)


def test_absurd_sizes_are_refused(tmp_path):
    path = tmp_path / "a.tar"
    for size, words in ((1 << 33, "not a plain file"), (-1024, "not a plain file"), (1 << 20, "cut short")):
        entry = tarfile.TarInfo("c000009-g00000.json")
        entry.size = size
        path.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + b"{}")
        with pytest.raises(DataError, match=words):
            indexed(path, SUFFIXES)


def test_samples_that_are_not_whole(tmp_path):
    first, second = list(SAMPLES.items())[:2]
    part = write(tmp_path / "part.tar", {first[0]: {"json": b"{}", "0.png": b"x"}})
    with pytest.raises(DataError, match=r"lacks '1\.png' of sample 'c000000"):
        indexed(part, SUFFIXES)
    again = hostile(tmp_path / "again.tar", "c000000-g00000.json")
    with pytest.raises(DataError, match="holds the sample 'c000000-g00000' twice"):
        indexed(again, SUFFIXES)
    doubled = tmp_path / "doubled.tar"
    with doubled.open("wb") as file:
        writer = ShardWriter(file)
        writer.write(second[0], second[1])
        writer.write(second[0], second[1])
        writer.finish()
    with pytest.raises(DataError, match=r"holds 'c000001-g00000\.0\.png' twice"):
        indexed(doubled, SUFFIXES)


def test_every_cut_is_noticed(tmp_path):
    path = write(tmp_path / "a.tar")
    whole = path.read_bytes()
    for length in (0, 1, 511, 512, 513, 1024, 5000, 12 * 512):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut short|damaged"):
            indexed(path, SUFFIXES)


def test_flipped_headers_are_noticed(tmp_path):
    path = write(tmp_path / "a.tar")
    whole = bytearray(path.read_bytes())
    for place in (0, 130, 512 * 2 + 5):
        damaged = whole.copy()
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(DataError):
            indexed(path, SUFFIXES)


def test_a_shard_that_is_gone_or_shrinks(tmp_path):
    path = write(tmp_path / "a.tar")
    index = indexed(path, SUFFIXES)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="cut short"):
        index.read(4)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        index.read(0)
    with pytest.raises(DataError, match="cannot be read"):
        indexed(path, SUFFIXES)


@given(
    st.lists(st.tuples(st.integers(0, 20 * 512), st.binary(min_size=1, max_size=12)), max_size=4),
    st.integers(0, 20 * 512),
)
def test_any_bytes_are_samples_or_one_sentence(changes, length):
    data = bytearray(WHOLE[: length or None])
    for place, new in changes:
        data[place : place + len(new)] = new
        repair(data, place // 512 * 512)
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        file.write(data)
        file.flush()
        try:
            index = indexed(Path(file.name), SUFFIXES)
            for row in range(len(index.keys)):
                index.read(row)
            said = ""
        except DataError as error:
            said = str(error)
    assert "\n" not in said


def repair(data: bytearray, place: int) -> None:
    """Give a header its right checksum, so that what it says is looked at."""
    header = data[place : place + 512]
    if len(header) == 512:
        header[148:156] = b" " * 8
        data[place + 148 : place + 156] = b"%06o\0 " % sum(header)
