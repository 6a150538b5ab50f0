"""The switch between inversions: what it refuses, what it hands on, and that a record repeats it."""

import json

import pytest
import torch

from closeness import assert_close
from evenreel import EditSettings, edit_file, registry
from evenreel.backbones import load_backbone
from evenreel.diffusion import sampling
from evenreel.errors import PluginError, SettingsError, WeightsError
from evenreel.hosts.prediction import predict_guided
from evenreel.inversions.base import SourceClip, create_inversion
from evenreel.workflows.editing.repeat import repeat_edit
from evenreel.workflows.world.reconstruction import reconstruct
from hosts.jobs import Around, job_for, random_latents
from tiny import exact_backbone, save_tiny

NAMES = ("bilateral", "ddim", "ddpm", "fixed-point", "flow-edit", "null-text")
every_inversion = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    return exact_backbone(tiny_folder)


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
    """Its noise changes little from place to place, so that DDIM inverts it."""
    return load_backbone(str(save_tiny(tmp_path_factory.mktemp("smooth"), smooth=True)), device="cpu")


def source_of(backbone, frames=3, steps=3, **changes):
    embeds = backbone.embed(["a red ball", ""])
    fields = {
        "latents": random_latents(frames),
        "timesteps": backbone.schedule.timesteps(steps),
        "prompt_embeds": embeds[:1],
        "negative_prompt_embeds": embeds[1:],
        "guidance_scale": 3.0,
    }
    return SourceClip(backbone=backbone, **(fields | changes))


def created(name, **options):
    return create_inversion(EditSettings(prompt="x", inversion=name, inversion_options=options))


def test_inversions_are_registered():
    assert set(NAMES) <= set(registry.names(registry.INVERSIONS))
    assert EditSettings(prompt="x").inversion in NAMES
    for name in NAMES:
        assert registry.find(registry.INVERSIONS, name).name == name


@torch.no_grad()
def test_the_default_takes_a_prediction_a_step(tiny):
    calls = []

    class Watches(Around):
        def predict_noise(self, latents, timestep, embeds):
            calls.append(timestep)
            return tiny.predict_noise(latents, timestep, embeds)

    source = source_of(Watches(tiny), steps=5)
    with create_inversion(EditSettings(prompt="x")).inverted(source):
        assert calls == list(source.timesteps)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("bilateral", {"kernel": 4}, "bilateral kernel must be odd and at least 1, got 4"),
        (
            "bilateral",
            {"mode": "time"},
            r"bilateral\.mode must be one of latent, clean, feature-time, got 'time'",
        ),
        ("bilateral", {"start": 0.5, "end": 0.4}, "a window must be"),
        ("fixed-point", {"iterations": 0}, r"fixed-point\.iterations must be at least 1, got 0"),
        ("fixed-point", {"budget": 0.5}, r"fixed-point\.budget must be at least 1, got 0\.5"),
        ("fixed-point", {"iterations": 2.0}, r"fixed-point\.iterations must be a whole number, got 2\.0"),
        ("fixed-point", {"tolerance": float("nan")}, r"fixed-point\.tolerance must .* got nan"),
        ("fixed-point", {"skip": 0.1}, "has no setting skip; its settings are: budget, iterations, tol"),
        ("ddim", {"steps": 500}, "inversion ddim has no setting steps; it has no settings"),
        ("ddpm", {"skip": 1.0}, r"ddpm\.skip must be from 0 to less than 1, got 1\.0"),
        ("ddpm", {"guidance_scale": -1}, r"ddpm\.guidance_scale must .* got -1\.0"),
        ("ddpm", {"shared_noise": 1}, r"ddpm\.shared_noise must be true or false, got 1"),
        ("null-text", {"inner_steps": 0}, r"null-text\.inner_steps must be at least 1"),
        ("null-text", {"learning_rate": 0}, r"null-text\.learning_rate must be above 0"),
    ],
)
def test_options_are_checked(name, options, said):
    with pytest.raises(SettingsError, match=said):
        created(name, **options)


@pytest.mark.parametrize("name", ["fixed-point", "ddpm"])
def test_more_steps_are_refused_where_they_cannot_help(name):
    settings = {"prompt": "x", "inversion": name, "steps": 20}
    create_inversion(EditSettings(**settings, inversion_steps=20))
    with pytest.raises(SettingsError, match=f"inversion {name} .* got inversion_steps 40; .*ddim"):
        create_inversion(EditSettings(**settings, inversion_steps=40))


def test_an_unknown_inversion_is_refused():
    with pytest.raises(PluginError, match=r"there is no inversion 'magic'; there are: bilateral, ddim, "):
        created("magic")


@every_inversion
@torch.no_grad()
def test_the_clip_is_there_at_every_timestep_that_is_left(name, tiny):
    seen = []
    source = source_of(tiny, steps=5, progress=lambda *now: seen.append(now))
    options = {"inner_steps": 1} if name == "null-text" else {}
    with created(name, **options).inverted(source) as found:
        assert found.timesteps == source.timesteps[len(source.timesteps) - len(found.timesteps) :]
        assert found.trajectory.timesteps == found.timesteps
        levels = [found.trajectory.read(timestep) for timestep in found.timesteps]
        assert all(torch.isfinite(latents).all() for latents in levels)
        # Noise covers the clip the more, the higher the timestep.
        alike = [float((one * source.latents).mean() / source.latents.square().mean()) for one in levels]
        assert alike == sorted(alike)
        assert (found.added_noise is not None) == (name in ("ddpm", "flow-edit"))
        assert set(found.null_embeds) == (set(found.timesteps) if name == "null-text" else set())
    assert ("invert", 0, seen[0][2]) == seen[0]
    assert any(stage == "invert" and done == total for stage, done, total in seen)
    with pytest.raises(ValueError, match="closed"):
        found.trajectory.read(found.timesteps[0])


@every_inversion
def test_memory_is_bounded_by_the_batch(name, tiny):
    sizes = set()

    class Watches(Around):
        def predict_noise(self, latents, timestep, embeds):
            sizes.add(len(latents))
            return tiny.predict_noise(latents, timestep, embeds)

    options = {"inner_steps": 1} if name == "null-text" else {}
    with created(name, **options).inverted(source_of(Watches(tiny), frames=7, steps=2, batch=3)):
        pass
    assert max(sizes) == (6 if name == "ddpm" else 3)  # with guidance, both branches together


@every_inversion
def test_a_model_that_breaks_is_an_error(name, tiny):
    class Broken(Around):
        def predict_noise(self, latents, timestep, embeds):
            return latents * float("nan")

    with pytest.raises(WeightsError, match="NaN"), created(name).inverted(source_of(Broken(tiny))):
        pass


def test_skipped_steps_are_the_noisiest(tiny):
    source = source_of(tiny, steps=10)
    for skip, left in ((0.0, 10), (0.36, 7), (0.99, 1)):
        with created("ddpm", skip=skip).inverted(source) as found:
            assert found.timesteps == source.timesteps[-left:]


@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
def test_ddpm_with_the_same_prompt_and_guidance_returns_to_the_clip(guidance_scale, tiny):
    """By the call that all hosts make, on a model with random weights, which nothing else inverts."""
    source = source_of(tiny, frames=3, steps=6)
    with created("ddpm", guidance_scale=guidance_scale).inverted(source) as found, torch.no_grad():
        job = job_for(
            tiny,
            3,
            timesteps=found.timesteps,
            prompt_embeds=source.prompt_embeds,
            negative_prompt_embeds=source.negative_prompt_embeds,
            guidance_scale=guidance_scale,
        )
        run = sampling.sample(
            found.trajectory.read(found.timesteps[0]),
            lambda x, _, t: predict_guided(tiny, job, x, range(3), t, with_source=False),
            tiny.schedule,
            found.timesteps,
            added_noise=found.noise_on(tiny.device),
        )
        *_, (_, clean) = run
    assert_close(clean, source.latents)


def test_without_guidance_null_text_is_ddim(tiny):
    source = source_of(tiny, guidance_scale=1.0)
    with created("null-text").inverted(source) as null_text, created("ddim").inverted(source) as ddim:
        assert not null_text.null_embeds
        assert all(torch.equal(null_text.trajectory.read(t), ddim.trajectory.read(t)) for t in ddim.timesteps)


def test_reconstruction_gets_better_in_the_order_that_is_documented(smooth):
    frames = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def lost(**settings):
        return reconstruct(smooth, frames, "a star", steps=4, **settings)

    ddim, fine = lost(inversion="ddim"), lost(inversion="ddim", inversion_steps=40)
    once = lost(inversion="fixed-point")
    twice = lost(inversion="fixed-point", inversion_options={"budget": 2, "iterations": 2, "tolerance": 0})
    exact = lost(inversion="ddpm", inversion_options={"guidance_scale": 1})
    assert [found.predictions for found in (ddim, fine, once, twice)] == [4, 31, 4, 8]
    assert exact.predictions == 3  # one of four steps is left out
    quality = [found.psnr_to_autoencoder for found in (ddim, fine, once, twice, exact)]
    assert quality[0] < quality[1]
    assert quality[0] < quality[2] < quality[3] < quality[4]
    assert quality[4] > 90


@every_inversion
def test_a_record_repeats_it(name, clip_with_sound, tmp_path, tiny_folder):
    options = {
        "ddpm": {"skip": 0.5},
        "fixed-point": {"budget": 2.0, "iterations": 3},
        "null-text": {"inner_steps": 1},
    }
    settings = EditSettings(
        prompt="a star",
        steps=2,
        model=str(tiny_folder),
        device="cpu",
        host="frame",
        frames=(0, 3),
        inversion=name,
        inversion_options=options.get(name, {}),
    )
    first = edit_file(clip_with_sound, tmp_path / "out.mp4", settings)
    record = json.loads(first.record_path.read_text())
    assert record["inversion"]["name"] == record["settings"]["inversion"] == name
    assert record["inversion"]["settings"].items() >= options.get(name, {}).items()
    assert repeat_edit(first.record_path).path.read_bytes() == first.path.read_bytes()


def test_records_of_old_were_made_by_ddim(clip_with_sound, tmp_path, tiny_folder):
    settings = EditSettings(
        prompt="a star", steps=2, model=str(tiny_folder), device="cpu", frames=(0, 2), inversion="ddim"
    )
    first = edit_file(clip_with_sound, tmp_path / "out.mp4", settings)
    record = json.loads(first.record_path.read_text())
    del record["settings"]["inversion"], record["settings"]["inversion_options"], record["inversion"]
    first.record_path.write_text(json.dumps(record))
    again = repeat_edit(first.record_path)
    assert again.path.read_bytes() == first.path.read_bytes()
    assert again.record["settings"]["inversion"] == "ddim"
