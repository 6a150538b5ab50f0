"""Motion modules in edits and clips from text: in every host, with every inversion, against diffusers, recorded."""

import json
from functools import cache

import pytest
import torch
from diffusers import AnimateDiffPipeline, DDIMScheduler, MotionAdapter
from PIL import Image

from evenreel import load, registry
from evenreel.backbones import load_backbone, mini
from evenreel.errors import SettingsError, WeightsError
from evenreel.hosts.base import create_host
from evenreel.hosts.frame import FrameHost
from evenreel.motion.folder import save_motion
from evenreel.motion.modules import MotionModules
from evenreel.progress import silent
from evenreel.settings import EditSettings, GenerateSettings
from evenreel.workflows.editing.additions.motion import MotionInUse, resolved
from evenreel.workflows.editing.computing.pipeline import Pipeline
from evenreel.workflows.editing.edit import edit_clip, edit_file
from evenreel.workflows.editing.generate import Generation, generate_file
from evenreel.workflows.editing.records.resource_use import Stopwatch
from evenreel.workflows.editing.repeat import repeat_edit
from evenreel.world import random_scene, render
from hosts.jobs import Around, random_latents
from motion.moving import random_motion
from tiny import save_tiny

HOSTS = registry.names(registry.HOSTS)
INVERSIONS = ("bilateral", "ddim", "ddpm", "fixed-point", "flow-edit", "null-text")
QUICK = {"ddpm": {"skip": 0.5}, "null-text": {"inner_steps": 1}}


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu")


@pytest.fixture(scope="module")
def modules(tiny):
    return random_motion(tiny.unet)


@pytest.fixture
def motion_folder(modules, tmp_path):
    return save_motion(modules, tmp_path / "motion")


def edited(backbone, host, latents, modules, *, window=4, steps=2, **settings):
    told = {"prompt": "a star", "source_prompt": "a ball", **settings}
    made = EditSettings(steps=steps, host=host, **told)
    motion = None if modules is None else MotionInUse(modules, "random", "0", window)
    created = create_host(host, made.host_options)
    stages = Pipeline(
        backbone,
        created,
        made,
        silent,
        Stopwatch(backbone.device),
        conditions=None,
        adapter=None,
        motion=motion,
    )
    return stages.edit(latents)


def traces(unet):
    return dict(unet.attn_processors), [hook for module in unet.modules() for hook in module._forward_hooks]


@pytest.mark.parametrize("host", HOSTS)
def test_every_host_in_windows(host, tiny, modules):
    """Six frames in windows of four: other frames than without, the same again, no trace."""
    clip, before = random_latents(6).float(), traces(tiny.unet)
    first = edited(tiny, host, clip, modules)
    assert torch.isfinite(first).all()
    assert torch.equal(edited(tiny, host, clip, modules), first)
    assert not torch.allclose(edited(tiny, host, clip, None), first, atol=1e-2)
    assert traces(tiny.unet) == before


@pytest.mark.parametrize("inversion", INVERSIONS)
def test_every_inversion(inversion, tiny, modules):
    told = {"inversion": inversion, "inversion_options": QUICK.get(inversion, {})}
    clip = random_latents(5).float()
    moved, plain = (edited(tiny, "frame", clip, use, **told) for use in (modules, None))
    assert torch.isfinite(moved).all()
    assert not torch.allclose(moved, plain, atol=1e-2)


@pytest.mark.parametrize("host", ["frame", "text2video_zero", "vid2vid_zero"])
def test_untrained_modules_change_nothing(host, tiny):
    """Bit for bit, where the same frames pass together without modules, and have the same noise."""
    clip, untrained = random_latents(3).float(), MotionModules.for_unet(tiny.unet)
    told = {"batch": 3, "inversion_options": {"shared_noise": True}}
    with_modules = edited(tiny, host, clip, untrained, **told)
    assert torch.equal(with_modules, edited(tiny, host, clip, None, **told))


def test_tokenflow_in_one_call_is_tokenflow_in_two(tiny):
    """Untrained modules: keyframes that pass with the others give what they give when they pass before."""
    clip, untrained = random_latents(4).float(), MotionModules.for_unet(tiny.unet)
    told = {"host_options": {"window": 2}, "inversion_options": {"shared_noise": True}}
    one, two = (edited(tiny, "tokenflow", clip, use, **told) for use in (untrained, None))
    assert (one - two).abs().max() <= 1e-3 * two.abs().max()


@pytest.mark.parametrize("frames", [4, 9])
def test_an_inverted_clip_is_sampled_back(frames, tmp_path):
    """The same modules and the same windows at the same timestep, both ways: exact, as without modules."""
    smooth = load_backbone(str(save_tiny(tmp_path, smooth=True)), device="cpu")
    clip = random_latents(frames).float()
    same = {
        "prompt": "a ball",
        "guidance_scale": 1.0,
        "host_options": {"pnp_attn": 0.0, "pnp_conv": 0.0, "p2p_cross": 0.0},
        "inversion": "fixed-point",
        "inversion_options": {"budget": 40.0, "iterations": 40, "tolerance": 1e-6},
    }
    settings = EditSettings(source_prompt="a ball", steps=3, host="frame", **same)

    def back(modules):
        motion = MotionInUse(modules, "random", "0", 4)
        host = create_host("frame", settings.host_options)
        return Pipeline(smooth, host, settings, silent, Stopwatch(smooth.device), motion=motion).edit(clip)

    modules = random_motion(smooth.unet)
    assert (back(modules) - clip).abs().max() < 1e-3 * clip.abs().max()


class Alone(FrameHost):
    """A host that lets no frames pass together."""

    with_motion = False


class Counting(Around):
    """A backbone that remembers how many latents passed at once."""

    def __init__(self, inner):
        super().__init__(inner)
        self.rows = []

    def predict_noise(self, latents, *args, **kwargs):
        self.rows.append(len(latents))
        return self.inner.predict_noise(latents, *args, **kwargs)


@pytest.mark.parametrize("host", HOSTS)
def test_memory_is_bounded_by_the_window(host, tiny, modules):
    counting = Counting(tiny)
    edited(counting, host, random_latents(11).float(), modules, steps=1)
    assert max(counting.rows) <= 4 * 3


def test_a_single_frame_is_a_picture(tiny, modules):
    clip = random_latents(1).float()
    assert torch.equal(edited(tiny, "frame", clip, modules), edited(tiny, "frame", clip, None))


def test_a_clip_from_text_is_what_animatediff_makes(tiny, tiny_folder, modules, motion_folder):
    """diffusers' pipeline from the same noise: DDIM steps with guidance."""
    settings = GenerateSettings(
        prompt="a star", negative_prompt="blurry", host="frame", frames=5, steps=4, guidance_scale=5.0, seed=3
    )
    motion = MotionInUse(modules, "random", "0", 16)
    host = create_host("frame", {}, with_source=False)
    stages = Generation(tiny, host, settings, silent, Stopwatch(tiny.device), motion=motion)
    ours = stages.latents((64, 64))
    theirs = AnimateDiffPipeline.from_pretrained(
        tiny_folder,
        motion_adapter=MotionAdapter.from_pretrained(motion_folder),
        scheduler=DDIMScheduler.from_pretrained(tiny_folder / "scheduler"),
    )
    theirs.set_progress_bar_config(disable=True)
    noise = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    prompt, negative = tiny.embed(["a star", "blurry"]).split(1)
    reference = (
        theirs(
            prompt_embeds=prompt,
            negative_prompt_embeds=negative,
            num_frames=5,
            height=64,
            width=64,
            num_inference_steps=4,
            guidance_scale=5.0,
            latents=noise.movedim(0, 1)[None],
            output_type="latent",
        )
        .frames[0]
        .movedim(1, 0)
    )
    assert (ours - reference).abs().max() <= 1e-4 * reference.abs().max()


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("text2video_zero", {"published_chunks": True}),
        ("tokenflow", {"published": True}),
        ("vid2vid_zero", {"published": True}),
    ],
)
def test_what_cannot_pass_in_windows_says_so(host, options, tiny):
    few = random_motion(tiny.unet, max_frames=4)
    with pytest.raises(SettingsError, match="motion off"):
        edited(tiny, host, random_latents(5).float(), few, host_options=options)


def test_records_know_the_modules_and_repeat_them(clip_with_sound, tmp_path, tiny_folder, motion_folder):
    settings = EditSettings(
        prompt="a star",
        steps=1,
        model=str(tiny_folder),
        device="cpu",
        motion=str(motion_folder),
        motion_window=4,
    )
    first = edit_file(clip_with_sound, tmp_path / "a.mp4", settings)
    record = json.loads(first.record_path.read_text())
    assert record["settings"]["motion"] == record["motion"]["name"] == str(motion_folder)
    assert len(record["motion"]["fingerprint"]) == 64
    again = repeat_edit(first.record_path, tmp_path / "b.mp4")
    assert again.record["output"]["sha256"] == first.record["output"]["sha256"]
    without = edit_file(
        clip_with_sound, tmp_path / "c.mp4", EditSettings(**{**vars(settings), "motion": "off"})
    )
    assert without.record["motion"] is None
    assert without.record["output"]["sha256"] != first.record["output"]["sha256"]

    config = motion_folder / "config.json"
    config.write_text(
        config.read_text().replace('"motion_num_attention_heads": 4', '"motion_num_attention_heads": 2')
    )
    with pytest.raises(WeightsError, match="no longer those that were used"):
        repeat_edit(first.record_path, tmp_path / "d.mp4")


def test_a_record_from_before_there_were_modules_has_none(tmp_path, tiny_folder):
    settings = GenerateSettings(prompt="a star", model=str(tiny_folder), device="cpu", steps=1, frames=2)
    made = generate_file(tmp_path / "a.mp4", settings)
    record = json.loads(made.record_path.read_text())
    del record["motion"], record["settings"]["motion"]
    made.record_path.write_text(json.dumps(record))
    again = repeat_edit(made.record_path)
    assert again.record["settings"]["motion"] == "off"
    assert again.record["output"]["sha256"] == record["output"]["sha256"]


def test_modules_come_along_only_where_they_are_packaged(tiny, monkeypatch, tmp_path):
    host = create_host("frame")
    assert resolved("auto", tiny, host) == "off"
    packaged = Around(tiny)
    packaged.name = "mini"
    monkeypatch.setattr(mini, "MOTION", tmp_path / "absent")
    assert resolved("auto", packaged, host) == "off"
    monkeypatch.setattr(mini, "MOTION", tmp_path)
    assert resolved("auto", packaged, host) == "mini"
    assert resolved("off", packaged, host) == "off"
    assert resolved("auto", packaged, Alone()) == "off"


def test_what_does_not_go_together_is_refused(tiny, motion_folder, tmp_path):
    def opened(host="frame", **told):
        settings = EditSettings(prompt="x", host=host, **{"motion": str(motion_folder), **told})
        chosen = Alone() if host == "odd" else create_host(host)
        return MotionInUse.opened(settings.motion, settings.motion_window, tiny, chosen, download=False)

    with pytest.raises(SettingsError, match="lets no frames"):
        opened("odd")
    with pytest.raises(SettingsError, match="at most 32"):
        opened(motion_window=33)
    with pytest.raises(WeightsError, match="no such model folder"):
        opened(motion="nowhere")
    other = save_motion(MotionModules.for_unet(tiny.unet, max_frames=8), tmp_path / "short")
    assert opened(motion=str(other), motion_window=8).window == 8
    with pytest.raises(WeightsError, match="not on this machine"):
        opened(motion="somebody/motion-modules")


@pytest.fixture(scope="module")
def with_flat(tmp_path_factory):
    """Edits four frames with the motion modules of `mini`, one of some colour put among them; each edit once."""
    backbone = load_backbone("mini", device="cpu")
    frames = render(random_scene(5), range(4), (64, 64), maps=False).frames

    @cache
    def run(host, colour=None, place=0, *, steps=3):
        flat = [] if colour is None else [torch.full_like(frames[:1], colour)]
        clip, folder = torch.cat([frames[:place], *flat, frames[place:]]), tmp_path_factory.mktemp("flat")
        for number, frame in enumerate((clip * 255).round().to(torch.uint8).permute(0, 2, 3, 1)):
            Image.fromarray(frame.numpy()).save(folder / f"{number}.png")
        told = {"prompt": "a blue star", "steps": steps, "size": 64, "host": host, "inversion": "ddim"}
        return edit_clip(load(folder), EditSettings(**told), backbone=backbone).frames

    return run


@pytest.mark.parametrize("host", ["frame", "text2video_zero", "vid2vid_zero"])
@pytest.mark.parametrize("place", [0, 2])
def test_a_black_frame_leaves_the_others_alone(host, place, with_flat):
    """It says nothing of how things move, and passes by itself."""
    found, wanted = with_flat(host, 0.0, place, steps=2), with_flat(host, steps=2)
    rest = [number for number in range(5) if number != place]
    assert torch.equal(found[rest], wanted)


@pytest.mark.parametrize("host", ["tokenflow", "vidtome"])
def test_a_frame_of_one_colour_keeps_it_where_frames_share_tokens(host, with_flat):
    """One more frame changes the others where they share keyframes or tokens; its colour must not go over to them."""
    black, white = with_flat(host, 0.0), with_flat(host, 1.0)
    assert black[0].float().mean() < 32
    assert white[0].float().mean() > 223
    if host == "tokenflow":  # its keyframes among the flat are not looked at by the others
        assert torch.equal(black[1:], white[1:])
    else:  # tokens that are alike merge; 31 dB were measured
        error = (black[1:].float() - white[1:].float()).square().mean()
        assert 10 * torch.log10(255**2 / error) > 25
