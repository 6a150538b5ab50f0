"""All that people add to a model, at once, in every host: as diffusers' own pipeline computes it from the same files.

Hosts are told to do nothing of their own, or get a single frame, of which the whole clip consists.
"""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline
from safetensors.torch import save_file

from adapters.lora_writing import ATTENTIONS, TEXT, factors_of, kohya, layers_of, peft_style
from evenreel import registry
from evenreel.backbones.control import Controls
from evenreel.diffusion.trajectory import Trajectory
from evenreel.hosts.base import EditJob, Prompts, create_host
from evenreel.inversions.base import create_inversion
from evenreel.progress import silent
from evenreel.settings import EditSettings
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.setup.run_setup import opened
from hosts.jobs import edit, random_latents
from libraries import need_loras_of_text_encoders
from one_file import (
    WIDTH,
    autoencoder_tensors,
    control_tensors,
    save_checkpoint,
    sd_control,
    sd_text,
    sd_unet,
    sd_vae,
)
from video.making import moving, write_clip

pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
STEPS, GUIDANCE, SCALES, WEIGHTS = 3, 5.0, (0.8, 0.5), (0.7, 0.3)
PROMPT, NEGATIVE = "a charm on a ball", "blurry"
OFF = {
    "frame": {"pnp_attn": 0.0, "pnp_conv": 0.0, "p2p_cross": 0.0},
    "text2video_zero": {"pnp_attn": 0.0, "pnp_conv": 0.0},
    "tokenflow": {"pnp_attn": 0.0, "pnp_conv": 0.0},
    "vid2vid_zero": {"cross": 0.0, "self_attention": 0.0},
    "vidtome": {"pnp_attn": 0.0, "pnp_conv": 0.0, "chunk_size": 1, "merge_global": False},
}
"""Nothing from the source, nothing from frame to frame."""
CASES = [*((name, 1) for name in OFF), ("frame", 3), ("vidtome", 3)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with everything; the model's own folder is `model`, which diffusers needs for configurations."""
    folder = tmp_path_factory.mktemp("all")
    save_checkpoint(folder)
    save_file(
        {n: t.contiguous() for n, t in autoencoder_tensors(sd_vae(7), "").items()}, folder / "vae.safetensors"
    )
    save_file(
        {"emb_params": torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(3))},
        folder / "charm.safetensors",
    )
    unet, text = layers_of(sd_unet(), ATTENTIONS), layers_of(sd_text(), TEXT)
    kohya(folder / "one.safetensors", factors_of(unet), factors_of(text, seed=1))
    peft_style(
        folder / "two.safetensors", factors_of(layers_of(sd_unet(), (*ATTENTIONS, ".ff.net.2")), seed=5)
    )
    net = sd_control(sd_unet(), 1)
    save_file({n: t.contiguous() for n, t in control_tensors(net).items()}, folder / "edges.safetensors")
    net.save_pretrained(folder / "edges")  # for its configuration
    sd_control(sd_unet(), 2).save_pretrained(folder / "depth")
    for number in (1, 2):
        write_clip(folder / f"{number}.mkv", moving(3 * number, 64, 64)[-3:])
    return folder


@pytest.fixture(scope="module")
def ours(files):
    """The run of an edit, made ready from settings as a command line tells them."""
    settings = EditSettings.from_json(
        {
            "prompt": PROMPT,
            "negative_prompt": NEGATIVE,
            "guidance_scale": GUIDANCE,
            "model": str(files / "dream.safetensors"),
            "tokenizer": str(files / "model" / "tokenizer"),
            "vae": str(files / "vae.safetensors"),
            "lora": [
                f"{files / name}.safetensors:{w}" for name, w in zip(("one", "two"), WEIGHTS, strict=True)
            ],
            "embedding": [str(files / "charm.safetensors")],
            "control": [str(files / "edges.safetensors"), str(files / "depth")],
            "control_kind": ["canny", "depth"],
            "control_scale": list(SCALES),
            "control_clip": [str(files / "1.mkv"), str(files / "2.mkv")],
            "host": "frame",
            "steps": STEPS,
            "device": "cpu",
            "dtype": "float32",
            "motion": "off",
        }
    )
    return opened(
        Pipeline,
        settings,
        None,
        silent,
        prompts=[PROMPT, NEGATIVE, ""],
        inversion=create_inversion(settings),
        frames=None,
        download=False,
    )


@pytest.fixture(scope="module")
def theirs(files):
    """Diffusers' pipeline with the same files."""
    need_loras_of_text_encoders()
    nets = [
        ControlNetModel.from_single_file(
            str(files / "edges.safetensors"), config=str(files / "edges"), local_files_only=True
        ),
        ControlNetModel.from_pretrained(files / "depth"),
    ]
    pipeline = StableDiffusionControlNetPipeline.from_single_file(
        str(files / "dream.safetensors"),
        config=str(files / "model"),
        local_files_only=True,
        controlnet=nets,
        safety_checker=None,
        feature_extractor=None,
        scheduler=DDIMScheduler.from_pretrained(files / "model" / "scheduler"),
    )
    pipeline.vae = AutoencoderKL.from_single_file(
        str(files / "vae.safetensors"), config=str(files / "model"), subfolder="vae", local_files_only=True
    )
    for name in ("one", "two"):
        pipeline.load_lora_weights(str(files), weight_name=f"{name}.safetensors", adapter_name=name)
    pipeline.set_adapters(["one", "two"], list(WEIGHTS))
    pipeline.load_textual_inversion(str(files / "charm.safetensors"), token="charm")  # noqa: S106 - a word
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def relative(one, other):
    return float((one - other).abs().max() / other.abs().max())


@torch.no_grad()
def by_diffusers(pipeline, maps, latents):
    """Latents at the end, and frames: each frame by itself, as the pipeline takes pictures."""
    found = [
        pipeline(
            PROMPT,
            negative_prompt=NEGATIVE,
            guidance_scale=GUIDANCE,
            num_inference_steps=STEPS,
            controlnet_conditioning_scale=list(SCALES),
            image=[shown[i : i + 1].expand(-1, 3, -1, -1) / 255 for shown in maps],
            latents=latents[i : i + 1],
            height=64,
            width=64,
            output_type="latent",
        ).images
        for i in range(len(latents))
    ]
    found = torch.cat(found)
    return found, pipeline.vae.decode(found / pipeline.vae.config.scaling_factor).sample.div(2).add(
        0.5
    ).clamp(0, 1)


@pytest.fixture(scope="module")
def control(ours):
    """Both ControlNets with what they are shown."""
    return ours.conditions.control((64, 64), 0, 3, silent)


def test_every_host_is_here():
    assert set(OFF) == set(registry.names(registry.HOSTS))


@pytest.mark.parametrize(("name", "frames"), CASES)
@torch.no_grad()
def test_all_at_once_are_what_diffusers_makes_of_them(name, frames, ours, theirs, control):
    backbone, host = ours.backbone, create_host(name, OFF[name])
    timesteps = backbone.schedule.timesteps(STEPS)
    start = random_latents(frames, seed=1).float()
    with ours.completed():
        prompt, negative, source = backbone.embed([PROMPT, NEGATIVE, ""]).split(1)
        job = EditJob(
            shape=tuple(start.shape),
            timesteps=timesteps,
            prompt_embeds=prompt,
            negative_prompt_embeds=negative,
            source_prompt_embeds=source,
            prompts=Prompts(source="", edit=PROMPT),
            guidance_scale=GUIDANCE,
            control=control,
            source=Trajectory.of(dict.fromkeys(timesteps, start)),
            clean=start,
        )
        latents = edit(backbone, host, job)
    decoded = backbone.decode(latents)
    wanted, frames_wanted = by_diffusers(theirs, [one.maps for one in control.controls], start)
    assert relative(latents, wanted) <= 1e-5
    assert relative(decoded, frames_wanted) <= 1e-5


@torch.no_grad()
def test_each_of_them_counts(ours, control):
    """What was compared above depends on every one of them."""
    backbone, start = ours.backbone, random_latents(1, seed=1).float()

    def predicted(embeds, shown):
        return backbone.predict_noise(start, 401, embeds, shown and shown.residuals(start, [0], 401, embeds))

    with ours.completed():
        embeds = backbone.embed([PROMPT])
        whole = predicted(embeds, control)
        changed = {
            "embedding": predicted(backbone.embed([PROMPT.replace("charm", "chart")]), control),
            "first control": predicted(embeds, Controls(control.controls[1:])),
            "second control": predicted(embeds, Controls(control.controls[:1])),
        }
    for number, name in enumerate(("first LoRA", "second LoRA")):
        with replace(ours.additions, loras=ours.additions.loras[1 - number :][:1]).at_work(backbone):
            changed[name] = predicted(backbone.embed([PROMPT]), control)
    assert all(relative(one, whole) > 1e-3 for one in changed.values()), changed.keys()
