"""What trains motion modules: noise prediction on clips, base frozen (AnimateDiff, arXiv:2307.04725, section 4.2)."""

from contextlib import ExitStack
from typing import Any, NamedTuple

from torch import Tensor

from evenreel.backbones.conditioning import conditions, frame_size
from evenreel.diffusion import ddim
from evenreel.motion.attach import motion_attached
from evenreel.motion.modules import MotionModules
from evenreel.training.noise_loss import SNR_CAP, weighted_loss
from evenreel.training.trainee import Trainee


class MotionBatch(NamedTuple):
    """Clips to train on, on the device of the model."""

    latents: Tensor
    """Clean latents, (clips frames 4 height width)."""
    noise: Tensor
    """Unit noise of the same shape, drawn for each frame."""
    timesteps: Tensor
    """Training timesteps, int64, (clips,); all frames of a clip have the same."""
    prompt_embeds: Tensor
    """Of each clip's caption, (clips tokens width)."""


class MotionTrainee(Trainee):
    """A frozen UNet with motion modules at work, as a function from a batch to its loss.

    Nothing in `forward` waits for the device or moves tensors to it, so a CUDA graph can hold it. Only the parameters
    of `modules` require gradients.
    """

    static = True
    alphas_cumprod: Tensor

    def __init__(
        self, unet: Any, modules: MotionModules, alphas_cumprod: Tensor, *, snr_cap: float = SNR_CAP
    ) -> None:
        """Attach `modules` to `unet`, which is frozen, until `detach`.

        `alphas_cumprod` is the base's noise schedule, (timesteps,). Losses are weighted min(SNR, cap) / SNR
        (arXiv:2303.09556). Raises: WeightsError when the modules do not fit the UNet.
        """
        super().__init__()
        self.unet, self.modules_trained = (
            unet.requires_grad_(False).eval(),
            modules.requires_grad_(True).train(),
        )
        self.register_buffer("alphas_cumprod", alphas_cumprod.float().clone(), persistent=False)
        self.snr_cap = snr_cap
        self._attached = ExitStack()
        self._switch = self._attached.enter_context(motion_attached(unet, modules))

    def forward(self, batch: MotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean weighted squared error of the noise prediction, and figures as of `weighted_loss`."""
        return self.weighted(batch)

    def weighted(self, batch: MotionBatch, *, with_motion: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what `forward` does; without modules, of the base alone."""
        error = self.errors(batch, with_motion=with_motion)
        return weighted_loss(error, self.alphas_cumprod[batch.timesteps], self.snr_cap)

    def errors(self, batch: MotionBatch, *, with_motion: bool = True) -> Tensor:
        """Return the mean squared error of each clip's noise prediction, (clips,); without modules that of the base
        alone."""
        clips, frames = batch.latents.shape[:2]
        timesteps = batch.timesteps[:, None].expand(clips, frames).reshape(-1)
        alpha = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        noisy = ddim.add_noise(batch.latents.flatten(0, 1), batch.noise.flatten(0, 1), alpha)
        prompt_embeds = batch.prompt_embeds[:, None].expand(-1, frames, -1, -1).flatten(0, 1)
        self._switch.frames, self._switch.is_on = frames, with_motion
        inner = self.unet.dtype
        noisy = noisy.to(inner)
        told = conditions(self.unet, prompt_embeds, frame_size(noisy), inner)
        noise_pred = self.unet(noisy, timesteps, **told, return_dict=False)[0]
        return (noise_pred.float().unflatten(0, (clips, frames)) - batch.noise).square().mean((1, 2, 3, 4))

    def detach(self) -> None:
        """Take the modules away from the UNet again."""
        self._attached.close()
