"""Ways to damage a file: (random numbers, whole bytes) -> other bytes."""

import json
import random
import struct
from collections.abc import Callable

Mutation = Callable[[random.Random, bytes], bytes]

VALUES = (
    None,
    -1,
    0,
    1,
    10**6,
    10**30,
    10**400,
    0.5,
    -0.5,
    1e308,
    float("nan"),
    float("inf"),
    "big",
    "",
    "../../x",
    "a\0b",
    "~nosuchuser/x",
    "x" * 5000,
    "\ud800",
    [],
    [-1],
    [[]],
    {},
    {"": None},
    True,
)
"""What stands in the place of an entry of JSON."""
DTYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL", "C64", "F4", "?", 7, None)
WORDS = (
    b"",
    b"\n",
    b"\0",
    b"\xff",
    b'"',
    b"'",
    b"[",
    b"]" * 3,
    b"{",
    b"=",
    b",",
    b"#",
    b"1e999",
    b"nan",
    b"-",
    b"\xc3",
)
"""What is put into text."""
DEEP = 20_000


def with_bytes(draw: random.Random, content: bytes) -> bytes:
    """Bytes with some flipped, cut off, doubled or made up, mostly near the beginning, where headers are."""
    return _changed(draw, bytearray(content), min(len(content), 4096))


def with_bytes_anywhere(draw: random.Random, content: bytes) -> bytes:
    """The same anywhere."""
    return _changed(draw, bytearray(content), len(content))


def _changed(draw: random.Random, content: bytearray, reach: int) -> bytes:
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(max(1, reach))
        match draw.randrange(5):
            case 0:
                content[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del content[draw.randrange(len(content) + 1) :]
            case 2:
                content[at:at] = content[at : at + draw.randint(1, 64)]
            case 3:
                content[at : at + 8] = draw.randbytes(8)
            case 4:
                size = draw.choice((1, 2, 4, 8))
                content[at : at + size] = draw.choice((b"\0", b"\xff", b"\x7f")) * size
    return bytes(content)


def with_text(draw: random.Random, content: bytes) -> bytes:
    """Text with odd words put in, pieces left out or doubled, lines changed about."""
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(content) + 1)
        to = min(len(content), at + draw.randint(1, 30))
        match draw.randrange(6):
            case 0:
                content = content[:at] + draw.choice(WORDS) + content[at:]
            case 1:
                content = content[:at] + content[to:]
            case 2:
                content = content[:at] + content[at:to] * 2 + content[to:]
            case 3:
                lines = content.split(b"\n")
                draw.shuffle(lines)
                content = b"\n".join(lines)
            case 4:
                content = content[:at] + draw.choice((b"[", b'{"a":', b"[a.", b"(")) * DEEP + content[at:]
            case 5:
                content = content[:at] + str(draw.choice(VALUES)).encode("utf-8", "replace") + content[to:]
    return content


def with_json(draw: random.Random, content: bytes) -> bytes:
    """JSON with one entry, at any depth, changed or gone; now and then nested without end, or no JSON."""
    if draw.random() < 0.1:
        return with_text(draw, content)
    value = json.loads(content)
    place = value
    while True:
        if not place:
            return with_text(draw, content)
        key = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], dict | list) and place[key] and draw.random() < 0.7:
            place = place[key]
            continue
        if draw.random() < 0.15:
            del place[key]
        else:
            place[key] = draw.choice(VALUES)
        return json.dumps(value).encode()


def with_json_line(draw: random.Random, content: bytes) -> bytes:
    """A file of lines of JSON with one of them changed."""
    lines = content.split(b"\n")
    if draw.random() < 0.2:
        return with_text(draw, content)
    number = draw.randrange(max(1, len(lines) - 1))
    lines[number] = with_json(draw, lines[number])
    return b"\n".join(lines)


def with_header(draw: random.Random, content: bytes) -> bytes:
    """A safetensors file with one entry of its header changed, numbers left alone."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = draw.choice(list(header))
    if name == "__metadata__" or draw.random() < 0.2:
        text = with_json(draw, json.dumps(header).encode())
    else:
        key = draw.choice(["dtype", "shape", "data_offsets"])
        header[name][key] = {
            "dtype": draw.choice(DTYPES),
            "shape": draw.choice(
                [[], [0], [-1], [10**30], [True], None, [1, 1, 1], header[name]["shape"][::-1]]
            ),
            "data_offsets": draw.choice([[0, 4], [4, 0], [-4, 4], [None, 4], [0], [0, 2**63], [0, 10**30]]),
        }[key]
        text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def with_packed_json(draw: random.Random, content: bytes) -> bytes:
    """A safetensors file whose metadata hold JSON, with one entry of that changed."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = header["__metadata__"]
    packed = [name for name, value in metadata.items() if value[:1] in ("{", "[")]
    name = draw.choice(packed)
    metadata[name] = with_json(draw, metadata[name].encode()).decode("utf-8", "replace")
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]
