"""Adapter files: whole or not at all, checked to the last bit, and exchanged with other tools."""

import json
import os
import stat
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from adapters.making import ORIGIN, random_adapter
from closeness import NETWORK, OPERATION, assert_apart, assert_close
from evenreel.adapters import checkpoint
from evenreel.adapters.checkpoint import Origin, load, save
from evenreel.adapters.lora import lora_attached
from evenreel.adapters.lora_file import NAME, export_lora, import_lora
from evenreel.adapters.settings import LoraSettings, PromptTokenSettings
from evenreel.adapters.window import Window
from evenreel.errors import OutputError, SettingsError, WeightsError
from hosts.jobs import random_latents


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory):
    """An adapter and its file; not to be changed."""
    path = tmp_path_factory.mktemp("adapter") / "adapter.safetensors"
    adapter = random_adapter(tiny, lora=LoraSettings(scope="down", alpha=6.0), scale=0.5)
    save(adapter, path, replace(ORIGIN, notes={"steps": 3}))
    return adapter, path


def rewritten(path, target, change):
    """A copy of a file with `change(tensors, record)` made, whose checksum fits again."""
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    record = json.loads(metadata["evenreel.adapter"])
    change(tensors, record)
    if record.get("sha256") != "wrong":
        record["sha256"] = checkpoint._digest(tensors, record)
    save_file(tensors, target, {"evenreel.adapter": json.dumps(record), "licence": metadata["licence"]})
    return target


def of_type(dtype):
    def change(tensors, record):
        tensors[first_lora(tensors)] = tensors[first_lora(tensors)].to(dtype)

    return change


def without_axes(tensors, record):
    tensors[first_lora(tensors)] = torch.tensor(1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tokens": False},
        {"lora": False},
        {"tokens": PromptTokenSettings(shared=0, select="stride", weight=2.0)},
        {"tokens": PromptTokenSettings(select="none")},
        {"lora": LoraSettings(rank=2, alpha=3.0, scope=("mid_block.*", "up_blocks.1.*"))},
        {"training_window": Window(0.25, 0.75), "inference_window": Window(0.1, 0.3), "scale": 0.7},
    ],
)
def test_what_is_saved_is_loaded(tiny, tmp_path, changes):
    adapter = random_adapter(tiny, **changes)
    save(adapter, tmp_path / "a.safetensors", ORIGIN)
    loaded, origin = load(tmp_path / "a.safetensors", base=ORIGIN.base, vision=ORIGIN.vision)
    assert loaded.settings == adapter.settings
    assert origin == ORIGIN
    assert loaded.state_dict().keys() == adapter.state_dict().keys()
    for name, tensor in adapter.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    loaded.check_fits(tiny)


def test_the_licence_is_there_for_all_to_read(saved):
    with safe_open(saved[1], "pt") as file:
        assert file.metadata()["licence"] == "CC0-1.0"
    assert load(saved[1], base=None)[1].notes == {"steps": 3}
    for licence in ("", "  ", "two\nlines"):
        with pytest.raises(SettingsError, match="licence must be one line"):
            Origin(base="x", licence=licence)


def test_other_models_are_refused_unless_allowed(saved):
    path = saved[1]
    load(path, base=None)
    with pytest.raises(
        WeightsError, match=r"made for model tiny, and this one is another.*adapter_other_base"
    ):
        load(path, base="d" * 64)
    load(path, base=iter(["d" * 64, ORIGIN.base]))
    with pytest.raises(
        WeightsError,
        match=r"looks through the vision tower of the CLIP tiny-clip \(cccc.*name that one as adapter_clip",
    ):
        load(path, base=ORIGIN.base, vision="e" * 64)
    load(path, base="d" * 64, vision="e" * 64, other_base=True)


def test_a_cut_file_is_refused(saved, tmp_path):
    whole, cut = saved[1].read_bytes(), tmp_path / "cut.safetensors"
    for length in [*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"cut\.safetensors"):
            load(cut, base=None)
    cut.write_bytes(whole + b"\0")
    with pytest.raises(WeightsError):
        load(cut, base=None)


@given(st.integers(0, 10**9), st.integers(0, 7))
@settings(max_examples=60)
def test_a_flipped_bit_of_the_weights_is_refused(saved, tmp_path_factory, place, bit):
    whole = bytearray(saved[1].read_bytes())
    header = 8 + int.from_bytes(whole[:8], "little")
    whole[header + place % (len(whole) - header)] ^= 1 << bit
    damaged = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    damaged.write_bytes(whole)
    with pytest.raises(WeightsError, match="differs from its checksum"):
        load(damaged, base=None)


@given(st.integers(0, 10**9), st.integers(0, 7))
@settings(max_examples=100)
def test_a_flipped_bit_of_what_the_file_says_is_refused(saved, tmp_path_factory, place, bit):
    whole = bytearray(saved[1].read_bytes())
    whole[place % (8 + int.from_bytes(whole[:8], "little"))] ^= 1 << bit
    damaged = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    damaged.write_bytes(whole)
    with pytest.raises(WeightsError):
        load(damaged, base=None)


def test_files_of_the_first_format_are_read(saved, tmp_path):
    def older(tensors, record):
        record["format"] = 1

    path = rewritten(saved[1], tmp_path / "older.safetensors", older)
    assert load(path, base=None)[1].notes == {"steps": 3}


def first_lora(tensors):
    return next(name for name in sorted(tensors) if name.startswith("lora."))


def poison(value):
    def change(tensors, record):
        tensors[first_lora(tensors)][0, 0] = value

    return change


def put(*keys, value):
    def change(tensors, record):
        *path, last = keys
        for key in path:
            record = record[key]
        record[last] = value

    return change


def drop(*keys):
    def change(tensors, record):
        *path, last = keys
        for key in path:
            record = record[key]
        del record[last]

    return change


def without_a_tensor(tensors, record):
    del tensors[first_lora(tensors)]


def of_another_rank(tensors, record):
    name = first_lora(tensors)
    tensors[name] = tensors[name][:2].contiguous()


def with_a_stranger(tensors, record):
    tensors["optimizer.step"] = torch.zeros(1)


def without_tokens(tensors, record):
    for name in [name for name in tensors if name.startswith("tokens.")]:
        del tensors[name]


def with_other_tokens(tensors, record):
    tensors["tokens.shared"] = tensors["tokens.shared"][:2].contiguous()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (poison(float("nan")), "NaN or infinite"),
        (poison(float("inf")), "NaN or infinite"),
        (without_a_tensor, "for other layers"),
        (of_another_rank, "must be of size"),
        (with_a_stranger, "belong to no adapter"),
        (without_tokens, "do not belong together"),
        (with_other_tokens, "must be of size"),
        (put("format", value=99), "has format 99, this evenreel reads 2"),
        (put("settings", "lora", "rank", value=0), "rank must be from 1"),
        (put("settings", "lora", "rank", value="4"), "description is damaged"),
        (put("settings", "lora", "rank", value=True), "description is damaged"),
        (put("settings", "lora", "scope", value="up"), "scope must be"),
        (put("settings", "lora", "new", value=1), "description is damaged"),
        (put("settings", "tokens", value=None), "do not belong together"),
        (put("settings", "inference_window", value=[0.9, 0.1]), "a window must be"),
        (put("settings", "inference_window", value=0.9), "description is damaged"),
        (put("settings", "scale", value=-1), "scale must be"),
        (put("settings", "scale", value=None), "description is damaged"),
        (put("settings", value=[]), "description is damaged"),
        (put("origin", "licence", value=""), "licence must be one line"),
        (drop("origin", "base"), "description is damaged"),
        (drop("settings", "tokens"), "description is damaged"),
        (drop("origin"), "description is damaged"),
        (drop("format"), "description is damaged"),
        (put("sha256", value="wrong"), "differs from its checksum"),
        (put("settings", "scale", value=10**400), "description is damaged"),
        (put("settings", "lora", "alpha", value=10**400), "description is damaged"),
        (put("settings", "training_window", value=[0, 10**400]), "description is damaged"),
        (put("origin", "base", value=10**400), "description is damaged"),
        (put("origin", "licence", value=["CC0-1.0"]), "description is damaged"),
        (put("origin", "other", value=1), "description is damaged"),
        (of_type(torch.int8), "holds numbers of type I8"),
        (of_type(torch.bool), "holds numbers of type BOOL"),
        (of_type(torch.complex64), "holds numbers of type C64"),
        (without_axes, "description is damaged|for other layers|must be of size"),
    ],
)
def test_what_does_not_belong_together_is_refused_in_one_sentence(saved, tmp_path, change, words):
    path = rewritten(saved[1], tmp_path / "bad.safetensors", change)
    with pytest.raises(WeightsError, match=words) as caught:
        load(path, base=None)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_of_other_kinds_are_refused(saved, tmp_path):
    other = tmp_path / "other.safetensors"
    with pytest.raises(WeightsError, match="cannot be read"):
        load(other, base=None)
    save_file({"x": torch.zeros(1)}, other)
    with pytest.raises(WeightsError, match="is not an adapter of evenreel but"):
        load(other, base=None)
    save_file({"x": torch.zeros(1)}, other, {"evenreel.adapter": "{"})
    with pytest.raises(WeightsError, match="description is damaged"):
        load(other, base=None)
    torch.save({"x": torch.zeros(1)}, other)
    with pytest.raises(WeightsError, match="pickle"):
        load(other, base=None)


def test_a_failed_save_leaves_the_earlier_file(saved, tmp_path, monkeypatch):
    adapter, path = saved
    target = tmp_path / "a.safetensors"
    target.write_bytes(path.read_bytes())

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        save(adapter, target, ORIGIN)
    monkeypatch.undo()
    assert target.read_bytes() == path.read_bytes()
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(OutputError, match="not a folder"):
        save(adapter, tmp_path / "nowhere" / "a.safetensors", ORIGIN)


def test_the_file_is_flushed_before_it_gets_its_name(saved, tmp_path, monkeypatch):
    order, sync, rename = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (order.append("flush"), sync(number))[1])
    monkeypatch.setattr(os, "replace", lambda *a, **k: (order.append("rename"), rename(*a, **k))[1])
    save(saved[0], tmp_path / "a.safetensors", ORIGIN)
    assert order[0] == "flush"
    assert order.index("rename") < len(order) - 1  # and the folder's names after that
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) & 0o400


def test_saving_twice_gives_equal_files(saved, tmp_path):
    def contents(write):
        found = set()
        for number in range(8):  # the library shuffles what is not a tensor
            write(tmp_path / f"{number}.safetensors")
            found.add((tmp_path / f"{number}.safetensors").read_bytes())
        return found

    assert len(contents(lambda path: save(saved[0], path, ORIGIN))) == 1
    assert len(contents(lambda path: export_lora(saved[0].lora, path))) == 1


@torch.no_grad()
def answer(backbone):
    return backbone.predict_noise(random_latents(2, seed=9), 801, backbone.embed(["a blue ball"]))


@pytest.mark.parametrize("settings", [LoraSettings(), LoraSettings(scope="all", rank=3, alpha=7.5)])
def test_diffusers_loads_what_is_exported(tiny, tmp_path, settings):
    lora = random_adapter(tiny, lora=settings, tokens=False).lora
    with lora_attached(tiny.unet, lora):
        ours = answer(tiny)
    path = export_lora(lora, tmp_path)
    assert path == tmp_path / NAME
    before = answer(tiny)
    assert_apart(ours, before)
    tiny.unet.load_lora_adapter(load_file(path), prefix="unet")
    try:
        assert_close(answer(tiny), ours, OPERATION[torch.float32])  # of the numbers in the file
    finally:
        tiny.unet.unload_lora()
    assert torch.equal(answer(tiny), before)


def test_diffusers_pipelines_read_the_file(tiny, tmp_path):
    from diffusers.loaders import StableDiffusionLoraLoaderMixin

    lora = random_adapter(tiny, lora=LoraSettings(alpha=8.0), tokens=False).lora
    export_lora(lora, tmp_path)
    tensors, alphas, metadata = StableDiffusionLoraLoaderMixin.lora_state_dict(
        str(tmp_path), unet_config=tiny.unet.config, return_lora_metadata=True
    )
    assert set(tensors) == {f"unet.{name}" for name in lora.tensors()}
    assert not alphas
    assert metadata["unet.r"] == metadata["unet.lora_alpha"] == 4


def test_exported_and_imported_it_is_the_same(tiny, tmp_path):
    lora = random_adapter(tiny, tokens=False).lora
    export_lora(lora, tmp_path / "lora.safetensors")
    back = import_lora(tmp_path / "lora.safetensors")
    assert back.shapes == {path: lora.shapes[path] for path in sorted(lora.shapes)}
    assert all(torch.equal(back.tensors()[name], tensor) for name, tensor in lora.tensors().items())
    assert back.settings.scaling == 1


def test_what_diffusers_saves_is_imported(tiny, tmp_path):
    from peft import LoraConfig

    config = LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=["attn1.to_q", "attn2.to_k", "to_out.0"],
        init_lora_weights="gaussian",
        rank_pattern={"attn2.to_k": 2},
    )
    tiny.unet.add_adapter(config)
    try:
        for name, weight in tiny.unet.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, 0, 0.3)
        theirs = answer(tiny)
        tiny.unet.save_lora_adapter(tmp_path)
    finally:
        tiny.unet.delete_adapters("default")
        tiny.unet.unload_lora()
    # A model saves its own layers; a pipeline puts the part's name in front of them.
    tensors = load_file(tmp_path / NAME)
    with safe_open(tmp_path / NAME, "pt") as file:
        packed = json.loads(file.metadata()["lora_adapter_metadata"])
    save_file(
        {f"unet.{name}": tensor for name, tensor in tensors.items()},
        tmp_path / NAME,
        {"lora_adapter_metadata": json.dumps({f"unet.{name}": value for name, value in packed.items()})},
    )
    lora = import_lora(tmp_path)
    with lora_attached(tiny.unet, lora):
        assert_close(answer(tiny), theirs, NETWORK)  # peft computes in float32
    assert_apart(answer(tiny), theirs)


def test_alphas_beside_the_weights_are_obeyed(tiny, tmp_path):
    lora = random_adapter(tiny, tokens=False).lora
    path = export_lora(lora, tmp_path)
    tensors = load_file(path)
    layer = next(iter(lora.shapes))
    save_file({**tensors, f"unet.{layer}.alpha": torch.tensor(2.0)}, path)
    back = import_lora(path)
    assert_close(back.change(layer), lora.change(layer) / 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {**t, "text_encoder.x.q_proj.lora_A.weight": torch.zeros(2, 2)}, "something else than"),
        (lambda t: {**t, "unet.conv_in.lora_A.weight": torch.zeros(2, 2)}, "something else than"),
        (
            lambda t: {k: v for k, v in t.items() if not k.endswith("attn1.to_q.lora_B.weight")},
            "do not belong",
        ),
        (lambda t: {k: v[:1] if "lora_A" in k else v for k, v in t.items()}, "do not belong together"),
        (lambda t: {k: v * float("nan") for k, v in t.items()}, "NaN"),
        (lambda t: {}, "holds no LoRA"),
    ],
)
def test_what_cannot_be_imported_is_refused(tiny, tmp_path, change, words):
    path = export_lora(random_adapter(tiny, tokens=False).lora, tmp_path)
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path)
    with pytest.raises(WeightsError, match=words):
        import_lora(path)


def test_loras_of_other_kinds_are_refused(tiny, tmp_path):
    path = export_lora(random_adapter(tiny, tokens=False).lora, tmp_path)
    tensors = load_file(path)
    for packed, words in (('{"unet.use_dora": true}', "use_dora"), ("[]", "damaged"), ("{", "damaged")):
        save_file(tensors, path, {"lora_adapter_metadata": packed})
        with pytest.raises(WeightsError, match=words):
            import_lora(path)
