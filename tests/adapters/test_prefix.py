"""Tokens in front of prompts, as hosts put them there."""

from dataclasses import replace

import torch

from closeness import assert_close
from evenreel.hosts.prediction import predict_guided, prefixed
from evenreel.hosts.prompt_to_prompt import PromptMap
from hosts.jobs import Around, job_for, random_latents


def test_attention_to_shared_tokens_comes_from_the_source_and_the_rest_as_before():
    generator = torch.Generator().manual_seed(0)
    prompts = PromptMap(taken=torch.rand(5, 5, generator=generator), kept=torch.rand(5, generator=generator))
    source, target = torch.rand(2, 7, 8, generator=generator)
    ours = prompts.behind(3).apply(source, target)
    assert torch.equal(ours[:, :3], source[:, :3])
    assert_close(ours[:, 3:], prompts.apply(source[:, 3:], target[:, 3:]))
    assert prompts.behind(0) is prompts


def test_every_branch_gets_the_tokens_of_its_frames(tiny):
    seen = []

    class Watches(Around):
        def predict_noise(self, latents, timestep, embeds):
            seen.append(embeds)
            return tiny.predict_noise(latents, timestep, embeds)

    tokens = torch.arange(5.0).view(5, 1, 1).expand(-1, 2, 32)
    job = job_for(tiny, 5, prefix=lambda frames, timestep: tokens[list(frames)] if timestep > 500 else None)
    late, early = job.timesteps[0], job.timesteps[-1]
    assert late > 500 > early
    with torch.no_grad():
        for timestep in (late, early):
            predict_guided(Watches(tiny), job, random_latents(2), [3, 1], timestep, with_source=True)
    assert seen[0].shape == (3 * 2, 2 + 77, 32)
    assert seen[0][:, 0, 0].tolist() == [3, 1] * 3  # source, uncond, cond
    expected = torch.cat([job.source_prompt_embeds, job.negative_prompt_embeds, job.prompt_embeds])
    assert torch.equal(seen[0][:, 2:], expected.repeat_interleave(2, dim=0))
    assert torch.equal(seen[1], expected)


def test_null_texts_keep_their_place_behind_the_tokens(tiny):
    job = job_for(tiny, 2)
    null = torch.full((1, 77, 32), 7.0)
    job = replace(
        job, null_embeds={job.timesteps[0]: null}, prefix=lambda frames, _: torch.zeros(len(frames), 4, 32)
    )
    (rows,) = prefixed(job, [null], [0, 1], job.timesteps[0])
    assert rows.shape == (2, 81, 32)
    assert rows[:, 4:].eq(7).all()
    assert rows[:, :4].eq(0).all()
    plain = replace(job, prefix=None)
    assert prefixed(plain, [null], [0, 1], 0)[0] is null
