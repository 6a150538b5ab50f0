"""What people add to SD-XL: LoRAs of three networks, embeddings of two vectors, ControlNets, adapters."""

import dataclasses

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionXLPipeline
from safetensors.torch import save_file

from adapters.lora_writing import ALPHA, ATTENTIONS, TEXT, factors_of, kohya, layers_of, save
from adapters.making import ORIGIN, hidden_of, random_adapter
from closeness import assert_apart, assert_close
from evenreel.adapters import checkpoint
from evenreel.adapters.foreign_lora import loras_attached, read_lora
from evenreel.adapters.lora_file import export_lora
from evenreel.backbones import load_backbone
from evenreel.backbones.control import load_control
from evenreel.backbones.embeddings import read_embedding
from evenreel.errors import WeightsError
from evenreel.hosts.base import create_host
from evenreel.settings import AdapterUse
from evenreel.workflows.editing.additions.adapter import AdapterInUse
from hosts.jobs import edit, job_for
from libraries import need_loras_of_text_encoders
from one_file import control_tensors, unet_name
from tiny import save_tiny_control
from tiny_xl import POOLED, save_tiny_xl_control

PROMPT = "a red ball"


@pytest.fixture(scope="module")
def model(saved):
    """A model of this file's own, since it is changed and put back."""
    return load_backbone(str(saved), device="cpu")


@pytest.fixture(scope="module")
def factors(model):
    """Of the UNet, and of both text encoders."""
    networks = ((model.unet, ATTENTIONS), *((text, TEXT) for text in model.text.text_encoders))
    return [factors_of(layers_of(net, ends), seed=seed) for seed, (net, ends) in enumerate(networks)]


def latents():
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def predicted(model):
    embeds = model.embed([PROMPT])
    return embeds[:, :-1], embeds[:, -1, :POOLED], model.predict_noise(latents(), 401, embeds)


@torch.no_grad()
def by_diffusers(folder, path, weight):
    """Hidden states, pooled text and noise of diffusers' pipeline with a LoRA."""
    need_loras_of_text_encoders()
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name="one")
    pipeline.set_adapters(["one"], [weight])
    hidden, _, pooled, _ = pipeline.encode_prompt(PROMPT, device="cpu", do_classifier_free_guidance=False)
    sizes = torch.tensor([[64, 64, 0, 0, 64, 64]] * 2, dtype=torch.float32)
    added = {"text_embeds": pooled.expand(2, -1), "time_ids": sizes}
    noise = pipeline.unet(latents(), 401, hidden.expand(2, -1, -1), added_cond_kwargs=added).sample
    return hidden, pooled, noise


def kohya_xl(path, unet, first, second):
    """As kohya's sd-scripts write them: the UNet by the original code's names, the encoders as te1 and te2."""
    tensors = {}
    named = {f"lora_unet_{unet_name(layer + '.x').removesuffix('.x')}": pair for layer, pair in unet.items()}
    named |= {f"lora_te1_text_model_{layer}": pair for layer, pair in first.items()}
    named |= {f"lora_te2_text_model_{layer}": pair for layer, pair in second.items()}
    for layer, (down, up) in named.items():
        name = layer.replace(".", "_")
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        tensors[f"{name}.alpha"] = torch.tensor(ALPHA)
    return save(tensors, path)


def diffusers_xl(path, unet, first, second):
    """As diffusers' `save_lora_weights`."""
    tensors = {}
    for prefix, layers in (("unet.", unet), ("text_encoder.", first), ("text_encoder_2.", second)):
        inner = "" if prefix == "unet." else "text_model."
        for layer, (down, up) in layers.items():
            tensors |= {
                f"{prefix}{inner}{layer}.lora_A.weight": down,
                f"{prefix}{inner}{layer}.lora_B.weight": up,
            }
    return save(tensors, path)


@pytest.mark.parametrize("write", [kohya_xl, diffusers_xl])
def test_loras_are_what_diffusers_makes_of_them(saved, model, factors, tmp_path, write):
    path = write(tmp_path / "a.safetensors", *factors)
    before, lora = predicted(model), read_lora(path, model)
    assert [len(part) for part in (lora.unet, lora.text, lora.text_2)] == [len(part) for part in factors]
    with loras_attached(model, [(lora, 0.7)]):
        ours = predicted(model)
    for one, theirs, plain in zip(ours, by_diffusers(saved, path, 0.7), before, strict=True):
        assert_close(one, theirs)
        assert_apart(one, plain)
    assert all(torch.equal(one, other) for one, other in zip(predicted(model), before, strict=True))


def test_a_lora_of_sd_1_is_refused_by_name(model, tmp_path):
    width = {"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k": (4, 768)}
    tensors = {f"{name}.lora_down.weight": torch.zeros(shape) for name, shape in width.items()}
    tensors |= {f"{name}.lora_up.weight": torch.zeros(320, 4) for name in width}
    with pytest.raises(WeightsError, match=r"is a LoRA for Stable Diffusion 1\.x; use one made for model"):
        read_lora(save(tensors, tmp_path / "one.safetensors"), model)


def test_a_lora_of_sd_1_without_a_text_width_is_refused(model, tmp_path):
    from tiny import tiny_unet

    with pytest.raises(WeightsError, match="of models whose prompts have 32 features"):
        read_lora(kohya(tmp_path / "one.safetensors", factors_of(layers_of(tiny_unet(), ATTENTIONS))), model)


def test_embeddings_of_two_vectors(model, tmp_path):
    """As webui and diffusers write them: clip_l and clip_g."""
    tables = [encoder.get_input_embeddings().weight for encoder in model.text.text_encoders]
    (token,) = model.text.first.tokenizer("b", add_special_tokens=False).input_ids
    path = tmp_path / "charm.safetensors"
    save_file({"clip_l": tables[0][[token]].clone(), "clip_g": tables[1][[token]].clone()}, path)
    word = read_embedding(path, model.text.widths)
    with model.text.reading("weights", [word]):
        assert torch.equal(model.embed(["a (charm:1.2) c"]), model.embed(["a (b:1.2) c"]))
    with pytest.raises(
        WeightsError, match=r"for Stable Diffusion XL of 32 and 64 features, .* words have 32;"
    ):
        read_embedding(path, (32,))


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"emb_params": torch.zeros(2, 32)}, "of 32 features, and this model's words have 32 and 64"),
        ({"clip_l": torch.zeros(2, 32), "clip_g": torch.zeros(3, 64)}, "as many vectors for each"),
        ({"clip_l": torch.zeros(2, 64), "clip_g": torch.zeros(2, 32)}, "of 64 and 32 features"),
    ],
)
def test_other_embeddings_are_refused(model, tmp_path, tensors, said):
    save_file(tensors, tmp_path / "charm.safetensors")
    with pytest.raises(WeightsError, match=said):
        read_embedding(tmp_path / "charm.safetensors", model.text.widths)


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    return save_tiny_xl_control(tmp_path_factory.mktemp("control"))


class TestControl:
    """ControlNets of SD-XL get pooled text and sizes too."""

    def residuals(self, model, path):
        maps = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(1))
        control = load_control(str(path), model).showing(maps.to(torch.uint8), 0.8)
        with torch.no_grad():
            return maps, control.residuals(latents(), (0, 1), 401, model.embed([PROMPT]))

    def test_what_it_adds_is_what_diffusers_adds(self, model, control):
        maps, ours = self.residuals(model, control)
        embeds = model.embed([PROMPT]).expand(2, -1, -1)
        added = {
            "text_embeds": embeds[:, -1, :POOLED],
            "time_ids": torch.tensor([[64, 64, 0, 0, 64, 64]] * 2, dtype=torch.float32),
        }
        with torch.no_grad():
            down, mid = ControlNetModel.from_pretrained(control)(
                latents(),
                401,
                embeds[:, :-1],
                controlnet_cond=maps / 255,
                conditioning_scale=0.8,
                added_cond_kwargs=added,
                return_dict=False,
            )
        assert_close(ours.mid, mid)
        for one, other in zip(ours.down, down, strict=True):
            assert_close(one, other)

    def test_hosts_use_it(self, model, control):
        maps = torch.randint(0, 256, (2, 3, 64, 64)).to(torch.uint8)
        shown = load_control(str(control), model).showing(maps, 0.8)
        host, job = create_host("vidtome"), job_for(model, 2)
        assert_apart(edit(model, host, job), edit(model, host, dataclasses.replace(job, control=shown)))

    def test_one_of_sd_1_is_refused_by_name(self, model, tmp_path):
        folder = save_tiny_control(tmp_path / "control")
        with pytest.raises(WeightsError, match="made for another model"):
            load_control(str(folder), model)

    def test_one_of_sdxl_is_refused_by_sd_1(self, control, tiny_folder):
        with pytest.raises(WeightsError, match="made for another model, Stable Diffusion XL"):
            load_control(str(control), load_backbone(str(tiny_folder), device="cpu"))


class TestAdapter:
    """Adapters of evenreel on SD-XL."""

    def test_off_is_off_and_on_changes_all_blocks(self, model):
        adapter = random_adapter(model)
        assert any("transformer_blocks.1" in path for path in adapter.lora.shapes)
        host, job = create_host("frame"), job_for(model, 2)
        plain = edit(model, host, job)
        for scale in (0.0, 1.0):
            with adapter.attach(model, hidden=hidden_of(2), scale=scale) as attached:
                changed = edit(model, host, dataclasses.replace(job, prefix=attached.prefix))
            assert torch.equal(changed, plain) == (scale == 0)
        assert torch.equal(edit(model, host, job), plain)

    def test_its_lora_is_one_for_diffusers(self, saved, model, tmp_path):
        adapter = random_adapter(model, tokens=False)
        path = export_lora(adapter.lora, tmp_path / "out.safetensors")
        lora = read_lora(path, model)
        assert len(lora.unet) == len(adapter.lora.shapes)
        with loras_attached(model, [(lora, 1.0)]):
            ours = predicted(model)[-1]
        assert_close(ours, by_diffusers(saved, path, 1.0)[-1])

    def test_one_of_sd_1_is_refused_by_name(self, model, tiny_folder, tmp_path):
        path = tmp_path / "a.safetensors"
        checkpoint.save(random_adapter(load_backbone(str(tiny_folder), device="cpu")), path, ORIGIN)
        for other_base, said in ((False, "was made for model tiny"), (True, "made for another model")):
            use = AdapterUse(file=str(path), other_base=other_base)
            with pytest.raises(WeightsError, match=said):
                AdapterInUse.opened(use, model, with_source=False)


def test_a_control_in_one_file_is_its_folder(model, tmp_path):
    folder = save_tiny_xl_control(tmp_path / "folder")
    net = ControlNetModel.from_pretrained(folder)
    save_file({n: t.contiguous() for n, t in control_tensors(net, "").items()}, tmp_path / "a.safetensors")
    check = TestControl()
    _, ours = check.residuals(model, tmp_path / "a.safetensors")
    assert_close(ours.mid, check.residuals(model, folder)[1].mid)
