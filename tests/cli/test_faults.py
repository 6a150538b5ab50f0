"""Faults and bad input at the door that people use: a sentence, another exit status, and earlier results as they were.

Items 1 to 20 (clips) are in tests/video/test_faults_*.py; docs/faults.md says where each of the others is tried.
"""

import json
import pickle
import re
import shutil
import struct
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.making import ORIGIN, random_adapter
from evenreel.adapters import checkpoint
from evenreel.backbones import load_backbone
from evenreel.cli import main
from evenreel.outputs import Outputs
from training.making import built, clips_folder

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def model(tiny_folder, tmp_path):
    """A copy, to damage."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys, clip_with_sound):
    """Try an edit, or what else is told, and look at what it says and leaves."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("out.mp4", "out.json"):
        (tmp_path / "work" / name).write_text(json.dumps({"record_version": 1, "settings": {}}))

    def attempt(words: str, *told: object, command: tuple[str, ...] | None = None) -> str:
        usual = (
            "edit",
            str(clip_with_sound),
            "--prompt",
            "x",
            "--steps",
            "1",
            "--device",
            "cpu",
            "--motion",
            "off",
            "-q",
        )
        before = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
        capsys.readouterr()
        found = main([*(command or (*usual, "-o", "out.mp4")), *map(str, told)])
        said = capsys.readouterr().err.strip()
        assert found in (1, 2), said
        assert said.startswith("evenreel: ")
        assert "\n" not in said
        assert "unexpected" not in said
        assert re.search(words, said), said
        assert {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before
        return said

    return attempt


def changed(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def header_of(path: Path) -> tuple[dict, bytes]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def test_21_truncated_weights(refused, model):
    path = model / "unet" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    refused("unet.*fetch", "--model", model)


def test_22_a_flipped_bit_is_noticed_where_the_hash_is_known(
    refused, tiny_folder, model, clip_with_sound, tmp_path
):
    adapter = tmp_path / "adapter.safetensors"
    checkpoint.save(random_adapter(load_backbone(str(tiny_folder), device="cpu")), adapter, ORIGIN)
    content = bytearray(adapter.read_bytes())
    content[-20] ^= 1
    adapter.write_bytes(content)
    refused("adapter.*(damaged|checksum)", "--model", tiny_folder, "--adapter", adapter)
    told = [
        "edit",
        str(clip_with_sound),
        "--prompt",
        "x",
        "--steps",
        "1",
        "--device",
        "cpu",
        "--motion",
        "off",
        "-q",
    ]
    assert main([*told, "--model", str(model), "--frames", "0:1", "-o", str(tmp_path / "one.mp4")]) == 0
    path = model / "vae" / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    refused("no longer the one that was used", command=("repeat", str(tmp_path / "one.json")))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_23_weights_that_are_no_numbers(refused, model, value):
    changed(model / "unet" / WEIGHTS, lambda tensors: tensors["conv_in.weight"].flatten()[:1].fill_(value))
    refused("NaN or infinite", "--model", model)


def test_24_an_adapter_for_another_model(refused, tiny_folder, tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoint.save(random_adapter(load_backbone(str(tiny_folder), device="cpu")), path, ORIGIN)
    refused(
        "made for model tiny, and this one is another.*--adapter-other-base",
        "--model",
        tiny_folder,
        "--adapter",
        path,
    )


@pytest.mark.parametrize("what", ["rank", "missing", "extra"])
def test_25_an_adapter_that_does_not_fit(refused, tiny_folder, tmp_path, what):
    path = tmp_path / "a.safetensors"
    checkpoint.save(random_adapter(load_backbone(str(tiny_folder), device="cpu")), path, ORIGIN)
    header, _ = header_of(path)
    tensors = load_file(path)
    name = next(name for name in tensors if "lora" in name.lower())
    if what == "rank":
        tensors[name] = tensors[name][:1].clone()
    elif what == "missing":
        del tensors[name]
    else:
        tensors["strange"] = torch.zeros(1)
    save_file(tensors, path, header["__metadata__"])
    refused(r"a\.safetensors", "--model", tiny_folder, "--adapter", path)


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harmed"),)


@pytest.mark.parametrize("name", ["a.ckpt", "a.safetensors"])
@pytest.mark.parametrize("option", ["--model", "--lora", "--embedding", "--vae", "--adapter", "--control"])
def test_26_pickles(refused, tiny_folder, tmp_path, name, option):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Harmful()))
    refused("safetensors", *(() if option == "--model" else ("--model", tiny_folder)), option, path)
    assert not Path("harmed").exists()


def test_27_code_that_comes_with_a_model(refused, model):
    index = model / "model_index.json"
    values = json.loads(index.read_text())
    index.write_text(json.dumps(values | {"unet": ["harmful", "UNet"]}))
    (model / "harmful.py").write_text("import pathlib; pathlib.Path('harmed').touch()")
    refused("unet|model_index", "--model", model)
    index.write_text(json.dumps(values))
    config = model / "unet" / "config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"auto_map": {"AutoModel": "harmful.UNet"}})
    )
    refused("must be a plain UNet2DConditionModel", "--model", model)
    assert not Path("harmed").exists()


@pytest.mark.parametrize("what", ["twice", "huge"])
def test_28_headers(refused, model, what):
    path = model / "unet" / WEIGHTS
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = content[8 : 8 + length]
    if what == "twice":
        first = text[: text.index(b"}") + 1]
        text = first + b"," + text[1:]
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    else:
        path.write_bytes(struct.pack("<Q", 2**62) + content[8:])
    refused("unet", "--model", model)


@pytest.fixture
def data(tmp_path):
    clips_folder(tmp_path / "clips", count=4, frames=5)
    built(tmp_path / "clips", tmp_path / "data")
    return tmp_path / "data"


def with_member(path: Path, **about) -> None:
    """A shard with one more member in front."""
    rest = path.read_bytes()
    entry = tarfile.TarInfo(about.pop("name"))
    for name, value in about.items():
        setattr(entry, name, value)
    path.write_bytes(entry.tobuf() + rest)


@pytest.mark.parametrize(
    "about",
    [
        {"name": "../harmed.json"},
        {"name": "/tmp/harmed.json"},  # noqa: S108 - never written
        {"name": "c000000-g00000.json", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"name": "c000000-g00000.json", "type": tarfile.CHRTYPE},
        {"name": "c000009-g00000.pyd"},
        {"name": "c000009-g00000.pickle"},
    ],
)
def test_29_and_32_members_that_do_harm(refused, data, about):
    with_member(data / "shard-00000.tar", **about)
    refused("shard-00000", command=("data", "check", str(data), "-j", "1", "-q"))
    refused("shard-00000", command=("train", "adapter", str(data), "-o", "run", "-q"))
    assert not Path("run").exists() or not list(Path("run").glob("*.safetensors"))


def test_30_a_damaged_shard_in_the_middle(refused, data):
    path = data / "shard-00001.tar"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    refused(r"shard-00001\.tar is not what was built", command=("data", "check", str(data), "-j", "1", "-q"))


def test_31_pairs_and_captions_that_lack_something(refused, tmp_path):
    (tmp_path / "pairs.json").write_text('[{"source": "a.mp4"}]')
    refused("pair 1 has no edit", command=("evaluate", "--pairs", str(tmp_path / "pairs.json")))
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "captions.json").write_text("{")
    refused(
        r"captions\.json cannot be read",
        command=("data", "build", str(tmp_path / "clips"), "-o", "data", "-q"),
    )


@pytest.mark.parametrize("name", ["pipe:touch harmed", "http://127.0.0.1:9/x", "::brace"])
def test_32_addresses_and_commands_as_data(refused, name):
    refused("cannot be read|is not", command=("data", "check", name, "-q"))
    assert not Path("harmed").exists()


@pytest.mark.parametrize("place", ["/proc/out.mp4", "/dev/null", "nowhere/out.mp4", "/"])
def test_36_places_that_cannot_be_written(refused, tiny_folder, clip_with_sound, place):
    if not Path("/proc").is_dir():
        pytest.skip("a system without /proc")
    told = ("edit", str(clip_with_sound), "--prompt", "x", "--steps", "1", "--model", str(tiny_folder), "-q")
    refused("out|null|/", command=(*told, "-o", place))


def test_39_the_second_is_refused(tmp_path, tiny_folder, clip_with_sound, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = ["edit", str(clip_with_sound), "--prompt", "x", "--steps", "1", "--model", str(tiny_folder), "-q"]
    with Outputs(Path("out.mp4")):
        assert main([*told, "-o", "out.mp4"]) == 1
    assert "is being written by another run" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--model", "--control", "--motion"])
def test_42_weights_that_are_not_on_this_machine(refused, tiny_folder, option):
    told = [] if option == "--model" else ["--model", tiny_folder]
    refused("nobody/nothing", *told, option, "nobody/nothing")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (("--prompt", ""), "prompt is empty"),
        (("--prompt", " \n "), "prompt is empty"),
        (("--prompt", "a\0b"), r"U\+0000"),
        (("--prompt", "a\ud800b"), r"U\+D800"),
        (("--prompt", "ball " * 2000), "prompt"),
        (("--source-prompt", "a\x1b[31m"), r"U\+001B"),
    ],
)
def test_49_prompts(refused, tiny_folder, told, words):
    refused(words, "--model", tiny_folder, *told)


@pytest.mark.parametrize(
    "told",
    [
        ("--steps", "0"),
        ("--steps", "1001"),
        ("--steps", "1e3"),
        ("--guidance-scale", "nan"),
        ("--guidance-scale", "-1"),
        ("--guidance-scale", "1e999"),
        ("--seed", "-1"),
        ("--seed", str(2**63)),
        ("--seed", "9" * 5000),
        ("--size", "7"),
        ("--size", "1x1x1"),
        ("--frames", "5:2"),
        ("--batch", "0"),
        ("--control-scale", "-1"),
    ],
)
def test_50_numbers_out_of_range(refused, tiny_folder, told):
    option = told[0].replace("-", "[-_]")
    refused(option, "--model", tiny_folder, *told)


PLACES = ("--model", "--vae", "--tokenizer", "--lora", "--embedding", "--control", "--adapter", "--motion")


@pytest.mark.parametrize("name", ["~nosuchuser/x", "x" * 5000, "a/" * 2000, "%s"])
def test_20_names(refused, tiny_folder, clip_with_sound, name):
    """Of models and what is added to them, of records, and of what is looked at."""
    for option in PLACES:
        usual = () if option == "--model" else ("--model", tiny_folder)
        assert len(refused("", *usual, f"{option}={name}")) < 1000
    for command in (["repeat"], ["adapter", "info"], ["data", "check"], ["evaluate", str(clip_with_sound)]):
        assert len(refused("", "--", name, command=tuple(command))) < 1000
    assert len(refused("", "--", name, command=("data", "build", "-q", "-o", "data"))) < 1000
