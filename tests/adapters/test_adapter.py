"""Laws of adapters around every host."""

from dataclasses import replace

import pytest
import torch

from adapters.making import VISION_WIDTH, hidden_of, random_adapter
from closeness import assert_apart, assert_close
from evenreel import registry
from evenreel.adapters.adapter import Adapter
from evenreel.adapters.settings import AdapterSettings, LoraSettings, PromptTokenSettings
from evenreel.adapters.window import Window
from evenreel.errors import SettingsError, WeightsError
from evenreel.hosts.base import Prompts, create_host
from evenreel.hosts.vid2vid_zero.host import Vid2VidZeroHost
from evenreel.settings import EditSettings
from hosts.jobs import Around, edit, job_for, random_latents
from tiny import save_tiny

HOSTS = [
    *(create_host(name) for name in registry.names(registry.HOSTS)),
    Vid2VidZeroHost(published=True),
]
every_host = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)


@torch.no_grad()
def answer(backbone, timestep=801):
    return backbone.predict_noise(random_latents(3, seed=9), timestep, backbone.embed(["a blue ball"]))


def edited(tiny, host, job, adapter, **options):
    with adapter.attach(tiny, **options) as attached:
        return edit(tiny, host, replace(job, prefix=attached.prefix))


@every_host
@pytest.mark.parametrize("fused", [False, True])
def test_it_changes_the_edit_and_leaves_no_trace(host, tiny, fused):
    job, adapter = job_for(tiny, 3, prompts=Prompts("a red ball", "a blue cube")), random_adapter(tiny)
    before, modules = answer(tiny), dict(tiny.unet.named_modules())
    plain = edit(tiny, host, job)
    changed = edited(tiny, host, job, adapter, hidden=hidden_of(3), fused=fused)
    assert torch.isfinite(changed).all()
    assert_apart(changed, plain)
    assert torch.equal(answer(tiny), before)
    assert dict(tiny.unet.named_modules()) == modules
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.unet.modules())
    assert torch.equal(edit(tiny, host, job), plain)


@every_host
@pytest.mark.parametrize("off", [{"scale": 0.0}, {"window": Window(0.9999)}], ids=["scale", "window"])
def test_off_is_the_edit_without_an_adapter_bit_for_bit(host, tiny, off):
    job = job_for(tiny, 3)
    without = edit(tiny, host, job)
    assert torch.equal(edited(tiny, host, job, random_adapter(tiny), hidden=hidden_of(3), **off), without)


@every_host
def test_fused_and_unfused_give_equal_edits(host, tiny):
    job, adapter = job_for(tiny, 3), random_adapter(tiny).double()
    one, other = (
        edited(tiny, host, job, adapter, hidden=hidden_of(3), scale=0.5, fused=fused)
        for fused in (False, True)
    )
    assert_close(one, other)


@every_host
@pytest.mark.parametrize(("frames", "guidance_scale"), [(1, 7.5), (5, 1.0)])
def test_lora_alone_and_tokens_alone(host, tiny, frames, guidance_scale):
    job = job_for(tiny, frames, steps=2, guidance_scale=guidance_scale)
    plain = edit(tiny, host, job)
    for parts in ({"tokens": False}, {"lora": False}):
        changed = edited(tiny, host, job, random_adapter(tiny, **parts), hidden=hidden_of(frames))
        assert changed.shape == plain.shape
        assert torch.isfinite(changed).all()
        assert_apart(changed, plain)


@every_host
def test_an_exception_leaves_nothing_behind(host, tiny):
    before, job = answer(tiny), job_for(tiny, 3)

    class Breaks(Around):
        def predict_noise(self, latents, timestep, embeds):
            tiny.predict_noise(latents, timestep, embeds)
            raise RuntimeError("out of memory")

    def run():
        with random_adapter(tiny).attach(tiny, hidden=hidden_of(3)) as attached:
            edit(Breaks(tiny), host, replace(job, prefix=attached.prefix))

    with pytest.raises(RuntimeError, match="out of memory"):
        run()
    assert torch.equal(answer(tiny), before)
    assert not any(module._forward_pre_hooks for module in tiny.unet.modules())


@every_host
def test_each_frame_gets_its_own_tokens_in_every_branch(host, tiny):
    """However a host orders and repeats frames, each row's latents and tokens are of the same frame."""
    frames, adapter = 5, random_adapter(tiny, lora=False)
    seen = []

    class Watches(Around):
        def predict_noise(self, latents, timestep, embeds):
            if embeds.shape[1] > 77:
                seen.append(embeds[:, :-77])
            return tiny.predict_noise(latents, timestep, embeds)

    with adapter.attach(tiny, hidden=hidden_of(frames)) as attached:
        edit(Watches(tiny), host, replace(job_for(tiny, frames, batch=2), prefix=attached.prefix))
        own = attached.prefix(range(frames), 999)
    assert seen
    rows = torch.cat(seen)
    which = torch.stack([(rows - token).abs().amax((1, 2)) == 0 for token in own], dim=1)
    assert which.sum(1).eq(1).all()
    assert which.any(0).all()


def test_windows_decide_when_it_is_at_work(tiny):
    adapter = random_adapter(tiny, inference_window=Window(0.4, 0.6))
    plain = {timestep: answer(tiny, timestep) for timestep in (1, 399, 400, 600, 601, 999)}
    with adapter.attach(tiny) as attached:
        for _ in range(2):  # back and forth
            for timestep, before in plain.items():
                inside = 400 <= timestep <= 600
                assert attached.is_active(timestep) is inside
                assert (attached.prefix([0], timestep) is not None) is inside
                assert torch.equal(answer(tiny, timestep), before) is not inside


def test_a_call_at_several_timesteps_is_an_error(tiny):
    embeds = tiny.embed(["a blue ball"]).expand(2, -1, -1)
    with random_adapter(tiny).attach(tiny), torch.no_grad():
        latents = random_latents(2)
        tiny.unet(latents, torch.tensor([700, 700]), encoder_hidden_states=embeds)
        with pytest.raises(ValueError, match="several timesteps"):
            tiny.unet(latents, torch.tensor([700, 900]), encoder_hidden_states=embeds)


def test_without_frames_shared_tokens_are_used(tiny):
    adapter = random_adapter(tiny)
    with adapter.attach(tiny) as attached:
        assert attached.prefix([4, 2], 999).shape == (2, 3, 32)
    with adapter.attach(tiny, hidden=hidden_of(5)) as attached:
        assert attached.prefix([4, 2], 999).shape == (2, 3 + 3, 32)
    nothing = random_adapter(tiny, lora=True, tokens=PromptTokenSettings(shared=0))
    with nothing.attach(tiny) as attached:
        assert attached.prefix([0], 999) is None


def test_the_settings_say_how_it_is_used(tiny):
    half = random_adapter(tiny, scale=0.5, tokens=False)
    whole = random_adapter(tiny, scale=1.0, tokens=False)
    with half.attach(tiny):
        as_set = answer(tiny)
    with whole.attach(tiny, scale=0.5):
        assert torch.equal(answer(tiny), as_set)
    with whole.attach(tiny):
        assert_apart(answer(tiny), as_set)


def test_the_same_generator_makes_the_same_adapter(tiny):
    one, same, other = (random_adapter(tiny, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_parameters_are_those_of_its_parts(tiny):
    adapter = random_adapter(tiny)
    count = sum(parameter.numel() for parameter in adapter.parameters())
    assert count == adapter.lora.parameter_count + adapter.tokens.parameter_count
    assert adapter.needs_frames
    assert not random_adapter(tiny, tokens=PromptTokenSettings(select="none")).needs_frames
    assert not random_adapter(tiny, tokens=False).needs_frames


def test_models_that_it_was_not_made_for_are_refused(tiny, tmp_path):
    from evenreel.backbones import load_backbone
    from tiny import tiny_unet

    folder = save_tiny(tmp_path / "other")
    tiny_unet(cross_attention_dim=48).save_pretrained(folder / "unet")
    other = load_backbone(str(folder), device="cpu")
    for parts, words in (
        ({"tokens": False}, "size"),
        ({"lora": False}, "32 features, but model .* takes 48"),
    ):
        with pytest.raises(WeightsError, match=words), random_adapter(tiny, **parts).attach(other):
            pass
    fewer = random_adapter(tiny, tokens=False)
    del fewer.lora.shapes[next(iter(fewer.lora.shapes))]
    with pytest.raises(WeightsError, match="that its settings name"), fewer.attach(tiny):
        pass


def test_impossible_adapters_are_refused(tiny):
    with pytest.raises(SettingsError, match="got neither"):
        AdapterSettings(lora=None, tokens=None)
    with pytest.raises(SettingsError, match="scale must be from 0 to 10, got -1"):
        AdapterSettings(scale=-1.0)
    with (
        pytest.raises(SettingsError, match="scale must be"),
        random_adapter(tiny).attach(tiny, scale=float("nan")),
    ):
        pass
    with pytest.raises(SettingsError, match="CLIP vision tower"):
        Adapter.of(tiny, AdapterSettings())
    assert Adapter.of(tiny, AdapterSettings(lora=LoraSettings()), vision_width=VISION_WIDTH).needs_frames


def prefix_of(backbone, adapter, hidden):
    with adapter.attach(backbone, hidden=hidden) as attached:
        return attached.prefix(range(len(hidden)), 801)


def test_parts_are_the_whole_taken_apart(tiny):
    adapter, hidden = random_adapter(tiny), hidden_of(3)
    whole = prefix_of(tiny, adapter, hidden)
    shared, frames = (prefix_of(tiny, adapter.only({part}), hidden) for part in ("shared", "frames"))
    assert torch.equal(whole, torch.cat([shared, frames], dim=1))
    assert torch.equal(prefix_of(tiny, adapter.only({"shared", "frames"}), hidden), whole)
    boosted = prefix_of(tiny, adapter.only(frame_weight=2.0), hidden)
    assert torch.equal(boosted, torch.cat([shared, 2 * frames], dim=1))
    assert adapter.only({"shared"}).needs_frames is False
    assert prefix_of(tiny, adapter.only({"lora"}), hidden) is None


def test_the_lora_by_itself_is_that_of_the_whole(tiny):
    adapter = random_adapter(tiny)
    plain = answer(tiny)
    for part, differs in (("lora", True), ("shared", False)):
        with adapter.attach(tiny) as whole, torch.no_grad():
            whole.see(801)
            both = answer(tiny)
        with adapter.only({part}).attach(tiny) as attached:
            attached.see(801)
            alone = answer(tiny)
        assert torch.equal(alone, both if differs else plain)
    assert torch.equal(answer(tiny), plain)


def test_parts_that_are_not_there(tiny):
    adapter = random_adapter(tiny, tokens=False)
    assert adapter.parts == {"lora"}
    with pytest.raises(WeightsError, match="no part shared; it has lora"):
        adapter.only({"shared"})
    with pytest.raises(WeightsError, match="uses none; leave it out"):
        adapter.only(frame_weight=2.0)


def test_parts_as_they_are_told():
    def use(**told):
        told = {"prompt": "x", "adapter": "a.safetensors", **told}
        return EditSettings.from_json(told).adapter

    assert use().parts_at_work is None
    assert use(adapter_parts="lora, tokens").parts_at_work == {"lora", "shared", "frames"}
    assert use(adapter_frame_weight=2.0).frame_weight == 2
    for wrong in ("lora,", "loras"):
        with pytest.raises(SettingsError, match="adapter_parts must name parts out of lora, shared"):
            use(adapter_parts=wrong)
