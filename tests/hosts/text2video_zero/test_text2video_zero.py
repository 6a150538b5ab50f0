"""What holds for clips out of one noisy frame, for controls, and for edits whose frames look at the first."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from closeness import assert_apart, assert_close, rows_apart
from evenreel import registry
from evenreel.backbones.control import load_control
from evenreel.errors import SettingsError
from evenreel.hosts.base import create_host
from evenreel.hosts.frame import FrameHost
from evenreel.hosts.text2video_zero.host import Draws, Text2VideoZeroHost, motion_levels
from evenreel.hosts.text2video_zero.variants import Motion, PublishedMotion
from hosts.jobs import Around, edit, job_for
from tiny import save_tiny_control

GENERATING = Text2VideoZeroHost(pnp_attn=0.0, pnp_conv=0.0)
PUBLISHED = replace(GENERATING, published=True, published_chunks=True)


@pytest.fixture(scope="session")
def net(tiny, tmp_path_factory):
    return load_control(str(save_tiny_control(tmp_path_factory.mktemp("control"))), tiny)


def conditions(frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (frames, 1, 64, 64), dtype=torch.uint8, generator=generator)


def text_job(tiny, frames, **changes):
    return job_for(tiny, frames, source=False, **{"steps": 6, **changes})


@pytest.fixture(autouse=True)
def exact_draws(monkeypatch):
    """Noise in float64, as all else that laws are tested with."""
    drawn = Draws.of

    def exact(job, clip):
        found = drawn(job, clip)
        return Draws(found.first.double(), found.thrown.double())

    monkeypatch.setattr(Draws, "of", exact)


class TestFromText:
    @pytest.mark.parametrize("host", [GENERATING, replace(GENERATING, published=True)])
    def test_batches_change_nothing(self, host, tiny):
        whole = edit(tiny, host, text_job(tiny, 7, batch=7))
        for batch in (1, 3):
            assert_close(edit(tiny, host, text_job(tiny, 7, batch=batch)), whole)

    def test_a_longer_clip_begins_alike(self, tiny):
        short, long = edit(tiny, GENERATING, text_job(tiny, 3)), edit(tiny, GENERATING, text_job(tiny, 6))
        assert_close(long[:3], short)

    def test_every_frame_differs(self, tiny):
        latents = edit(tiny, GENERATING, text_job(tiny, 5))
        for one, other in combinations(latents, 2):
            assert_apart(one, other, by=0.01)

    def test_other_seeds_give_other_clips(self, tiny):
        one, other = (edit(tiny, GENERATING, text_job(tiny, 2, seed=seed)) for seed in (0, 1))
        assert_apart(one, other, by=0.1)

    def test_the_first_frame_is_what_one_frame_alone_would_be(self, tiny):
        job = text_job(tiny, 4)
        alone = edit(
            tiny,
            FrameHost(pnp_attn=0.0, pnp_conv=0.0, p2p_cross=0.0),
            replace(job, shape=(1, *job.shape[1:])),
        )
        assert_close(edit(tiny, GENERATING, job)[:1], alone)

    @pytest.mark.parametrize("steps", [1, 2, 5, 50])
    def test_any_number_of_steps(self, steps, tiny):
        job = text_job(tiny, 3, steps=steps)
        with GENERATING.attach(tiny, job) as session:
            latents, timesteps = session.start()
        assert latents.shape == job.shape
        assert timesteps == job.timesteps[-len(timesteps) :]
        assert torch.isfinite(latents).all()

    def test_a_single_step_only_moves(self, tiny):
        """There is no room to throw copies back, and without motion they are the first frame."""
        latents = edit(tiny, replace(GENERATING, motion_x=0.0, motion_y=0.0), text_job(tiny, 3, steps=1))
        assert_close(latents, latents[:1].expand_as(latents))

    def test_frames_start_where_they_were_moved_to(self, tiny):
        """At one level, the start of every frame is a shifted copy of the first."""
        host = replace(GENERATING, motion_x=128.0, motion_y=0.0)  # two of the tiny model's eight cells
        with host.attach(tiny, text_job(tiny, 4, steps=1)) as session:
            latents, _ = session.start()
        assert torch.equal(latents[1][..., :-2], latents[0][..., 2:])
        assert torch.equal(latents[2][..., :-4], latents[0][..., 4:])

    def test_the_published_demo_shows_a_copy_of_the_first_frame(self, tiny):
        job = text_job(tiny, 5, batch=4)
        whole = edit(tiny, replace(PUBLISHED, published_chunks=False), job)
        demo = edit(tiny, PUBLISHED, job)
        assert demo.shape == whole.shape
        assert_apart(demo[0], whole[0], by=0.01)
        # Chunks of three besides the first frame draw the same noise, so frames 0 and 3 differ by motion alone.
        still = replace(PUBLISHED, motion_x=0.0, motion_y=0.0)
        with still.attach(tiny, replace(job, batch=4)) as session:
            start, _ = session.start()
        assert not torch.equal(start[0], start[1])
        assert not torch.equal(
            start[0], start[3]
        )  # noise is laid out channel by channel over 3 frames, then over 2
        with still.attach(tiny, text_job(tiny, 6, batch=4)) as session:
            start, _ = session.start()
        assert torch.equal(start[:3], start[3:])


class TestLevels:
    @pytest.mark.parametrize(
        ("steps", "wanted"),
        [(50, (881, 941)), (25, (881, 961)), (10, (801, 901)), (2, (1, 501)), (1, (999, 999))],
    )
    def test_the_nearest_of_a_run(self, steps, wanted, tiny):
        assert motion_levels(tiny.schedule.timesteps(steps), 881, 941) == wanted

    def test_small_pictures_move_later(self, tiny):
        job = text_job(tiny, 2, steps=50)
        with GENERATING.attach(tiny, job) as session:
            lower, upper = session.levels()
        with replace(GENERATING, published=True).attach(tiny, job) as session:
            assert session.levels() == (881, 941)
        assert lower < upper < 600


class TestEdits:
    @pytest.mark.parametrize("pnp", [(0.5, 0.8), (0.0, 0.5), (0.7, 0.0), (0.0, 0.0)])
    @pytest.mark.parametrize("guidance_scale", [7.5, 1.0])
    def test_the_first_frame_is_edited_as_if_alone(self, pnp, guidance_scale, tiny):
        attn, conv = pnp
        job = job_for(tiny, 4, guidance_scale=guidance_scale)
        ours = edit(tiny, Text2VideoZeroHost(pnp_attn=attn, pnp_conv=conv), job)
        alone = edit(tiny, FrameHost(pnp_attn=attn, pnp_conv=conv, p2p_cross=0.0), job)
        assert_close(ours[0], alone[0])
        assert_apart(ours[1:], alone[1:])

    def test_equal_frames_are_edited_alike_and_as_if_alone(self, tiny):
        job = job_for(tiny, 3)
        still = {t: job.source.read(t, [0]).expand(3, -1, -1, -1) for t in job.timesteps}
        job = replace(job, source=type(job.source).of(still))
        ours = edit(tiny, Text2VideoZeroHost(), job)
        assert_close(ours, edit(tiny, FrameHost(p2p_cross=0.0), job))

    def test_batches_change_nothing(self, tiny):
        whole = edit(tiny, Text2VideoZeroHost(), job_for(tiny, 5, batch=5))
        for batch in (1, 2, 4):
            assert_close(edit(tiny, Text2VideoZeroHost(), job_for(tiny, 5, batch=batch)), whole)

    def test_each_frame_depends_on_itself_and_the_first(self, tiny):
        job = job_for(tiny, 4)
        changed = {t: job.source.read(t).clone() for t in job.timesteps}
        for latents in changed.values():
            latents[2] *= -1
        other = replace(job, source=type(job.source).of(changed))
        edits = (edit(tiny, Text2VideoZeroHost(), one) for one in (job, other))
        assert rows_apart(*edits) == [False, False, True, False]


class TestControl:
    @pytest.mark.parametrize("name", registry.names(registry.HOSTS))
    def test_every_host_follows_it(self, name, tiny, net):
        host, job = create_host(name), job_for(tiny, 3, steps=2)
        plain = edit(tiny, host, job)
        nothing = edit(tiny, host, replace(job, control=net.showing(conditions(3), 0.0)))
        assert_close(nothing, plain)
        one, other = (
            edit(tiny, host, replace(job, control=net.showing(conditions(3, seed)))) for seed in (0, 1)
        )
        assert_apart(one, plain, by=0.01)
        assert_apart(one, other, by=0.01)

    def test_equal_conditions_make_equal_frames(self, tiny, net):
        """From a control alone, frames share their noise, and differ by what they are shown."""
        job = text_job(tiny, 3, control=net.showing(conditions(1).expand(3, -1, -1, -1)))
        latents = edit(tiny, GENERATING, job)
        assert_close(latents, latents[:1].expand_as(latents))
        latents = edit(tiny, GENERATING, replace(job, control=net.showing(conditions(3))))
        assert_apart(latents[1:], latents[:1].expand_as(latents[1:]), by=0.01)

    @pytest.mark.parametrize("source", [True, False])
    def test_batches_change_nothing(self, source, tiny, net):
        host = Text2VideoZeroHost() if source else GENERATING
        job = job_for(tiny, 5, source=source, control=net.showing(conditions(5)), batch=5)
        whole = edit(tiny, host, job)
        for batch in (1, 2):
            assert_close(edit(tiny, host, replace(job, batch=batch)), whole)

    def test_its_layers_look_at_the_first_frame_and_are_put_back(self, tiny, net):
        before = dict(net.net.attn_processors)
        job = text_job(tiny, 2, control=net.showing(conditions(2)))
        with GENERATING.attach(tiny, job):
            assert net.net.attn_processors != before
        assert net.net.attn_processors == before

        class Breaks(Around):
            def predict_noise(self, *_args, **_residuals):
                raise RuntimeError("out of memory")

        with (
            pytest.raises(RuntimeError, match="out of memory"),
            GENERATING.attach(Breaks(tiny), job) as session,
        ):
            session.predict_noise(*session.start()[:1], 0, job.timesteps[0])
        assert net.net.attn_processors == before


def test_injection_needs_a_source(tiny):
    with pytest.raises(SettingsError, match="inverted source"):
        edit(tiny, Text2VideoZeroHost(), text_job(tiny, 2))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"pnp_attn": 1.5}, "pnp_attn must be from 0 to 1"),
        ({"motion_x": float("nan")}, "motion_x must be from -512 to 512, got nan"),
        ({"motion_y": -600.0}, "motion_y must be from -512"),
        ({"motion_timestep": 941}, r"motion_timestep must be from 0 to below free_timestep \(941\), got 941"),
        ({"motion_timestep": -1}, "motion_timestep must be from 0"),
    ],
)
def test_settings_check_themselves(setting, words):
    with pytest.raises(SettingsError, match=rf"text2video_zero\.{words}"):
        Text2VideoZeroHost(**setting)


class TestVariants:
    """What the published code does otherwise."""

    def test_motion_is_the_same_share_of_a_picture_of_any_shape(self):
        assert (
            Motion().shift(12.0, 96, 64) == Motion().shift(12.0, 64, 64) == 1.5
        )  # as far to the right as down
        assert PublishedMotion().shift(12.0, 64, 64) == 1.5 - 1 / 16
        assert PublishedMotion().shift(12.0, 96, 64) > 1.5

    def test_the_published_way_back_is_one_timestep_early(self, tiny):
        ours, published = Motion().alpha_between, PublishedMotion().alpha_between
        assert published(tiny.schedule, 881, 941) == pytest.approx(ours(tiny.schedule, 880, 940))
        assert published(tiny.schedule, 0, 1) == pytest.approx(tiny.schedule.alpha(0))
