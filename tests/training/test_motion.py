"""Training of motion modules: the loss is what it says, and reaches the modules alone."""

import pytest
import torch

from evenreel.motion.attach import motion_attached
from evenreel.motion.modules import MotionModules
from evenreel.training.mini.joint import JointBatch, JointTrainee
from evenreel.training.motion.trainee import MotionBatch, MotionTrainee
from motion.moving import random_motion
from tiny import WIDTH, tiny_unet

LEVELS = torch.linspace(0.999, 0.01, 1000)


def batch_of(clips=2, frames=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (clips, frames, 4, 8, 8)
    return MotionBatch(
        latents=torch.randn(shape, generator=generator),
        noise=torch.randn(shape, generator=generator),
        timesteps=torch.tensor([100, 800])[:clips],
        prompt_embeds=torch.randn(clips, 5, WIDTH, generator=generator),
    )


@pytest.fixture
def trainee():
    unet = tiny_unet()
    trainee = MotionTrainee(unet, MotionModules.for_unet(unet), LEVELS)
    yield trainee
    trainee.detach()


def test_untrained_the_loss_is_the_bases_own(trainee):
    batch = batch_of()
    alone = tiny_unet()
    expected = []
    with torch.no_grad():
        for clip in range(2):
            alpha = LEVELS[batch.timesteps[clip]]
            noisy = alpha.sqrt() * batch.latents[clip] + (1 - alpha).sqrt() * batch.noise[clip]
            embeds = batch.prompt_embeds[clip].expand(4, -1, -1)
            noise_pred = alone(noisy, batch.timesteps[clip], embeds).sample
            snr = alpha / (1 - alpha)
            error = (noise_pred - batch.noise[clip]).square().mean()
            expected.append((float(error), float(min(5, snr) / snr * error)))
        loss, figures = trainee(batch)
    assert float(loss) == pytest.approx(sum(weighted for _, weighted in expected) / 2, rel=1e-5)
    assert float(figures["mse"]) == pytest.approx(sum(error for error, _ in expected) / 2, rel=1e-5)
    assert float(figures["mse_high"]) == pytest.approx(expected[1][0], rel=1e-5)


def test_gradients_reach_the_modules_alone(trainee):
    for _ in range(2):  # through a last projection of zero, only that projection is reached
        loss, figures = trainee(batch_of())
        loss.backward()
        with torch.no_grad():
            for weight in trainee.modules_trained.parameters():
                weight -= 0.1 * weight.grad
    assert all(bool(weight.grad.abs().sum() > 0) for weight in trainee.modules_trained.parameters())
    assert all(weight.grad is None for weight in trainee.unet.parameters())
    assert all(figure.ndim == 0 and not figure.requires_grad for figure in figures.values())


def test_a_few_steps_lower_the_loss(trainee):
    optimizer = torch.optim.AdamW(trainee.modules_trained.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss, _ = trainee(batch_of())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]
    with torch.no_grad():
        assert float(trainee.errors(batch_of()).mean()) < float(
            trainee.errors(batch_of(), with_motion=False).mean()
        )


def test_nothing_in_forward_waits_for_the_device(trainee):
    # On the meta device a number can never be read: `.item()`, a branch on data or a copy from the host would raise.
    meta = trainee.to("meta")
    loss, _ = meta(MotionBatch(*(tensor.to("meta") for tensor in batch_of())))
    assert loss.device.type == "meta"


def test_bfloat16_and_channels_last(trainee):
    plain, _ = trainee(batch_of())
    trainee.unet.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = trainee(batch_of())
        loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=0.05)
    assert all(weight.grad.dtype == torch.float32 for weight in trainee.modules_trained.parameters())


def test_the_unet_is_free_again(trainee):
    trainee.detach()
    assert not any(module._forward_hooks for module in trainee.unet.modules())
    with motion_attached(trainee.unet, trainee.modules_trained):
        pass


def joint_batch_of(clips=2, pictures=3):
    shape = (pictures, 1, 4, 8, 8)
    generator = torch.Generator().manual_seed(7)
    return JointBatch(
        *batch_of(clips),
        picture_latents=torch.randn(shape, generator=generator),
        picture_noise=torch.randn(shape, generator=generator),
        picture_timesteps=torch.tensor([50, 400, 950])[:pictures],
        picture_prompt_embeds=torch.randn(pictures, 5, WIDTH, generator=generator),
    )


def test_together_clips_pass_with_the_modules_and_pictures_without():
    unet, batch = tiny_unet(), joint_batch_of()
    modules = random_motion(unet)
    alone = MotionTrainee(tiny_unet(), modules, LEVELS)
    together = JointTrainee(unet, modules, LEVELS)
    with torch.no_grad():
        clips, _ = alone(MotionBatch(*batch[:4]))
        pictures, seen = alone.weighted(MotionBatch(*batch[4:]), with_motion=False)
        loss, figures = together(batch)
    assert float(loss) == pytest.approx(float(clips + pictures), rel=1e-5)
    assert float(figures["mse_pictures"]) == pytest.approx(float(seen["mse"]), rel=1e-5)
    loss, _ = together(batch)
    loss.backward()
    reached = [bool(weight.grad.abs().sum() > 0) for weight in together.unet.parameters()]
    assert sum(reached) > 0.9 * len(reached)  # some biases cancel in the norm that follows
    assert any(bool(weight.grad.abs().sum() > 0) for weight in together.modules_trained.parameters())
    alone.detach()
    together.detach()
    assert not any(module._forward_hooks for module in unet.modules())
