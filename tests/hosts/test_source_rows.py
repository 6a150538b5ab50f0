"""The source's rows by themselves: the same edit, and nothing of the source in the calls of the next one."""

from dataclasses import replace

import pytest
import torch

from closeness import assert_close
from evenreel.hosts.base import Prompts, create_host, keeps_source_rows
from evenreel.hosts.feature_reuse import FeatureReuse
from evenreel.hosts.frame import FrameHost
from evenreel.hosts.motion_windows import MotionWindows
from evenreel.hosts.source_rows import NoRows
from hosts.jobs import Around, edit, job_for

HOST = FrameHost(pnp_attn=0.4, pnp_conv=0.8, p2p_cross=0.6)
JOBS = {
    "injected": {},
    "told relative to the source": {"relative": True},
    "guided at some steps": {"relative": True, "guidance_interval": (500.0, 1000.0)},
    "without guidance": {"guidance_scale": 1.0},
    "two frames at once": {"relative": True, "batch": 2},
}


class InMemory:
    def __init__(self):
        self.pages = {}

    def read(self, call):
        return self.pages.get(repr(call))

    def write(self, call, page):
        self.pages[repr(call)] = {name: rows.clone() for name, rows in page.items()}


class Counted(Around):
    rows = 0

    def predict_noise(self, latents, *more):
        self.rows += len(latents)
        return self.inner.predict_noise(latents, *more)


def job_of(tiny, told, rows, prompt=None, interval=1):
    job = job_for(tiny, 3, steps=5, **told)
    if prompt is not None:
        prompts = Prompts(source=job.prompts.source, edit=prompt)
        job = replace(job, prompts=prompts, prompt_embeds=tiny.embed([prompt]))
    reuse = FeatureReuse(tiny.unet, job.timesteps, interval, 3) if interval > 1 else None
    return replace(job, source_rows=rows, reuse=reuse)


@pytest.mark.parametrize("interval", [1, 2])
@pytest.mark.parametrize("told", JOBS.values(), ids=JOBS)
def test_an_edit_with_kept_rows_is_the_edit(tiny, told, interval):
    whole = edit(tiny, HOST, job_of(tiny, told, None, interval=interval))
    rows = InMemory()
    first = edit(tiny, HOST, job_of(tiny, told, rows, interval=interval))
    assert_close(first, whole)
    assert torch.equal(edit(tiny, HOST, job_of(tiny, told, rows, interval=interval)), first)


@pytest.mark.parametrize("interval", [1, 2])
@pytest.mark.parametrize("told", JOBS.values(), ids=JOBS)
def test_another_prompt_finds_them_and_is_the_edit_that_finds_none_bit_for_bit(tiny, told, interval):
    alone = edit(tiny, HOST, job_of(tiny, told, NoRows(), "a green cube on a table", interval))
    rows = InMemory()
    edit(tiny, HOST, job_of(tiny, told, rows, interval=interval))
    made = len(rows.pages)
    found = edit(tiny, HOST, job_of(tiny, told, rows, "a green cube on a table", interval))
    assert torch.equal(found, alone)
    assert len(rows.pages) == made


@pytest.mark.parametrize("interval", [1, 2])
def test_pages_that_are_gone_are_made_again(tiny, interval):
    told = JOBS["told relative to the source"]
    rows = InMemory()
    first = edit(tiny, HOST, job_of(tiny, told, rows, interval=interval))
    for call in list(rows.pages)[::2]:
        del rows.pages[call]
    assert torch.equal(edit(tiny, HOST, job_of(tiny, told, rows, interval=interval)), first)
    assert len(rows.pages) == 5


def test_no_row_of_the_source_is_computed_again(tiny):
    told, counts, rows = {"relative": True}, [], InMemory()
    for store in (None, rows, rows):
        counted = Counted(tiny)
        edit(counted, HOST, job_of(tiny, told, store))
        counts.append(counted.rows)
    assert counts == [3 * 3 * 5, 3 * 3 * 5, 2 * 3 * 5]


def test_nothing_is_noted_where_nothing_is_taken(tiny):
    rows = InMemory()
    edit(tiny, HOST, job_of(tiny, {}, rows))
    assert len(rows.pages) == 4, "of five steps the last injects nothing"


def test_the_model_is_left_as_it_was(tiny):
    before = dict(tiny.unet.attn_processors)
    edit(tiny, HOST, job_of(tiny, {}, NoRows()))
    assert tiny.unet.attn_processors == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.unet.modules())


def test_windows_have_pages_of_their_own(tiny):
    class Switch:
        frames, is_on = 1, False

    rows = InMemory()
    job = job_of(tiny, {"relative": True}, rows)
    motion = MotionWindows(switch=Switch(), most=16, size=2, overlap=1, timesteps=job.timesteps)
    whole = edit(tiny, HOST, replace(job, motion=motion, source_rows=None))
    assert_close(edit(tiny, HOST, replace(job, motion=motion)), whole)
    assert torch.equal(
        edit(tiny, HOST, replace(job, motion=motion)),
        edit(tiny, HOST, replace(job, motion=motion, source_rows=NoRows())),
    )


def test_only_a_host_whose_source_goes_its_own_way_says_so():
    assert keeps_source_rows(create_host("frame"))
    for name in ("tokenflow", "vidtome", "text2video_zero", "vid2vid_zero"):
        assert not keeps_source_rows(create_host(name))
