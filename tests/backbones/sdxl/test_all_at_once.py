"""All that people add to SD-XL, at once, on hosts that do nothing of their own: as diffusers' pipeline computes it."""

from dataclasses import replace

import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    MultiControlNetModel,
    StableDiffusionXLControlNetPipeline,
)

from adapters.lora_writing import ATTENTIONS, TEXT, factors_of, layers_of
from backbones.sdxl.test_additions import diffusers_xl, kohya_xl
from closeness import assert_apart, assert_close
from evenreel.adapters.foreign_lora import loras_attached, read_lora
from evenreel.backbones import load_backbone
from evenreel.backbones.control import Controls, load_control
from evenreel.hosts.base import create_host
from hosts.jobs import edit, job_for
from libraries import need_loras_of_text_encoders
from tiny_xl import save_tiny_xl_control

PROMPT, NEGATIVE, WEIGHTS, SCALES, STEPS = "a red ball", "blurry", (0.7, 0.3), (0.8, 0.5), 4
OFF = {
    "frame": {"pnp_attn": 0.0, "pnp_conv": 0.0, "p2p_cross": 0.0},
    "tokenflow": {"pnp_attn": 0.0, "pnp_conv": 0.0},
    "vid2vid_zero": {"cross": 0.0, "self_attention": 0.0},
    "vidtome": {"pnp_attn": 0.0, "pnp_conv": 0.0, "chunk_size": 1, "merge_global": False},
}
"""Nothing from the source; of a clip of one frame, nothing from another one. (`text2video_zero` begins elsewhere.)"""


@pytest.fixture(scope="module")
def files(saved, tmp_path_factory):
    folder = tmp_path_factory.mktemp("all")
    model = load_backbone(str(saved), device="cpu")
    networks = ((model.unet, ATTENTIONS), *((text, TEXT) for text in model.text.text_encoders))
    for name, seed, write in (("one", 1, kohya_xl), ("two", 5, diffusers_xl)):
        factors = [factors_of(layers_of(net, ends), seed=seed + i) for i, (net, ends) in enumerate(networks)]
        write(folder / f"{name}.safetensors", *factors)
    for seed, name in enumerate(("edges", "depth")):
        save_tiny_xl_control(folder / name, seed=seed)
    return folder


@pytest.fixture(scope="module")
def maps():
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (1, 3, 64, 64), generator=generator).to(torch.uint8) for _ in range(2)]


@pytest.fixture(scope="module")
def theirs(saved, files, maps):
    """Latents at the end, from a noise."""
    need_loras_of_text_encoders()
    nets = MultiControlNetModel(
        [ControlNetModel.from_pretrained(files / name) for name in ("edges", "depth")]
    )
    pipeline = StableDiffusionXLControlNetPipeline.from_pretrained(
        saved, controlnet=nets, add_watermarker=False
    )
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, clip_sample=False, set_alpha_to_one=True
    )
    pipeline.set_progress_bar_config(disable=True)
    for name in ("one", "two"):
        pipeline.load_lora_weights(str(files), weight_name=f"{name}.safetensors", adapter_name=name)
    pipeline.set_adapters(["one", "two"], list(WEIGHTS))

    def run(noise):
        return pipeline(
            PROMPT,
            negative_prompt=NEGATIVE,
            image=[shown / 255 for shown in maps],
            height=64,
            width=64,
            num_inference_steps=STEPS,
            guidance_scale=5.0,
            controlnet_conditioning_scale=list(SCALES),
            latents=noise.float(),
            output_type="latent",
        ).images

    return run


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
@pytest.mark.parametrize("name", OFF)
def test_hosts_end_where_diffusers_does(saved, files, maps, theirs, name):
    model = load_backbone(str(saved), device="cpu")
    loras = [
        (read_lora(files / f"{lora}.safetensors", model), weight)
        for lora, weight in zip(("one", "two"), WEIGHTS, strict=True)
    ]
    shown = [
        load_control(str(files / net), model).showing(its, scale)
        for net, its, scale in zip(("edges", "depth"), maps, SCALES, strict=True)
    ]
    source = name == "tokenflow"  # which works on a source alone
    host = create_host(name, OFF[name], with_source=source)
    with loras_attached(model, loras):
        rows = model.embed([PROMPT, NEGATIVE])
        told = {"prompt_embeds": rows[:1], "negative_prompt_embeds": rows[1:], "guidance_scale": 5.0}
        job = job_for(model, 1, steps=STEPS, source=source, control=Controls(tuple(shown)), **told)
        with host.attach(model, job) as session:
            noise, _ = session.start()
        ours = edit(model, host, job)
        assert_apart(ours, edit(model, host, replace(job, control=None)))
    assert_close(ours, theirs(noise))
