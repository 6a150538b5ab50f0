import os

import pytest
import torch

from closeness import assert_close
from evenreel.diffusion.inversion import record
from evenreel.diffusion.schedule import NoiseSchedule
from evenreel.diffusion.trajectory import Trajectory
from evenreel.errors import OutputError

TIMESTEPS = (801, 401, 1)
SHAPE = (5, 4, 2, 2)


@pytest.mark.parametrize("memory_limit", [0, 2**20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_written_is_read(tmp_path, memory_limit, dtype):
    with Trajectory(
        TIMESTEPS, SHAPE, dtype=dtype, memory_limit=memory_limit, directory=tmp_path
    ) as trajectory:
        assert trajectory.on_disk == (memory_limit == 0)
        latents = {timestep: torch.randn(SHAPE).to(dtype) for timestep in TIMESTEPS}
        for timestep, value in latents.items():
            trajectory.write(timestep, value[:3])
            trajectory.write(timestep, value[3:], start=3)
        for timestep, value in latents.items():
            assert torch.equal(trajectory.read(timestep), value)
            assert torch.equal(trajectory.read(timestep, [4, 0]), value[[4, 0]])
        assert 401 in trajectory
        assert 402 not in trajectory
        assert trajectory.timesteps == TIMESTEPS


@pytest.mark.parametrize("memory_limit", [0, 2**20])
def test_reading_gives_a_copy(memory_limit):
    with Trajectory(TIMESTEPS, SHAPE, memory_limit=memory_limit) as trajectory:
        trajectory.write(1, torch.zeros(SHAPE))
        trajectory.read(1).add_(1)
        trajectory.read(1, [0]).add_(1)
        assert not trajectory.read(1).any()


def test_nothing_is_left_behind(tmp_path):
    trajectory = Trajectory(TIMESTEPS, SHAPE, memory_limit=0, directory=tmp_path)
    trajectory.close()
    trajectory.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        trajectory.read(1)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve disk space")
def test_a_full_disk_is_one_sentence(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match="No space left"):
        Trajectory(TIMESTEPS, SHAPE, memory_limit=0, directory=tmp_path)


def test_recording_in_batches_is_recording_at_once():
    schedule = NoiseSchedule.from_config({"steps_offset": 1})
    timesteps = schedule.timesteps(5)
    clip = torch.randn(7, 4, 2, 2)

    def recorded(batch, kept):
        with Trajectory(kept, tuple(clip.shape)) as trajectory:
            run = record(trajectory, clip, lambda x, t: torch.tanh(x), schedule, timesteps, batch=batch)
            assert list(run)[-1] == 7 * 5
            return {timestep: trajectory.read(timestep) for timestep in kept}

    whole, parts = recorded(7, timesteps), recorded(3, timesteps[:2])
    for timestep, latents in parts.items():
        assert_close(latents, whole[timestep])
