"""What trains a ControlNet: noise prediction of pictures whose map it is shown, base frozen (arXiv:2302.05543)."""

from typing import Any, NamedTuple

from diffusers import ControlNetModel, UNet2DConditionModel
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from evenreel.backbones.conditioning import conditions
from evenreel.diffusion import ddim
from evenreel.training.noise_loss import SNR_CAP, weighted_loss
from evenreel.training.trainee import Trainee

HINT_CHANNELS = (16, 32, 96, 256)
"""Of the layers that read a map, in all that are published."""


def begun(unet: UNet2DConditionModel, hint_channels: tuple[int, ...] = HINT_CHANNELS) -> ControlNetModel:
    """Return a ControlNet before its training, on the UNet's device: a copy of the way down, whose outputs are zero.

    Layers that read the map begin at random.
    """
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=hint_channels)
    return net.to(unet.device)


class ControlBatch(NamedTuple):
    """Pictures to train on, on the device of the model."""

    latents: Float[Tensor, "pictures channels height width"]
    """Clean latents."""
    noise: Float[Tensor, "pictures channels height width"]
    """Unit noise."""
    timesteps: Int[Tensor, "pictures"]
    """Training timesteps."""
    prompt_embeds: Float[Tensor, "pictures tokens features"]
    """Of each picture's caption."""
    maps: UInt8[Tensor, "pictures 3 rows columns"]
    """What the ControlNet is shown of each, 8 times the latents' size."""


class ControlTrainee(Trainee):
    """A frozen UNet and its ControlNet, as a function from a batch to its loss.

    Nothing in `forward` waits for the device or moves tensors to it, so a CUDA graph can hold it. Only the parameters
    of `net` require gradients.
    """

    static = True
    alphas_cumprod: Tensor

    def __init__(self, unet: Any, net: Any, alphas_cumprod: Tensor, *, snr_cap: float = SNR_CAP) -> None:
        """`unet` and `net` are diffusers' UNet2DConditionModel and a ControlNetModel made for it.

        `alphas_cumprod` is the base's noise schedule, (timesteps,). Losses are weighted min(SNR, cap) / SNR
        (arXiv:2303.09556).
        """
        super().__init__()
        self.unet = unet.requires_grad_(False).eval()
        self.net = net.requires_grad_(True).train()
        self.register_buffer("alphas_cumprod", alphas_cumprod.float().clone(), persistent=False)
        self.snr_cap = snr_cap

    def forward(self, batch: ControlBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean weighted squared error of the noise prediction, and figures as of `weighted_loss`."""
        return weighted_loss(self.errors(batch), self.alphas_cumprod[batch.timesteps], self.snr_cap)

    def errors(self, batch: ControlBatch, *, with_control: bool = True) -> Float[Tensor, "pictures"]:
        """Return the mean squared error of each picture's noise prediction; without the ControlNet that of the base
        alone."""
        alpha = self.alphas_cumprod[batch.timesteps].view(-1, 1, 1, 1)
        noisy = ddim.add_noise(batch.latents, batch.noise, alpha)
        inner = self.unet.dtype
        noisy, size = noisy.to(inner), (batch.maps.shape[-2], batch.maps.shape[-1])
        residuals: dict[str, Any] = {}
        if with_control:
            down, mid = self.net(
                noisy,
                batch.timesteps,
                **conditions(self.net, batch.prompt_embeds, size, inner),
                controlnet_cond=batch.maps.to(inner) / 255,
                return_dict=False,
            )
            residuals = {
                "down_block_additional_residuals": down,
                "mid_block_additional_residual": mid,
            }
        told = conditions(self.unet, batch.prompt_embeds, size, inner)
        noise_pred = self.unet(noisy, batch.timesteps, **told, return_dict=False, **residuals)[0]
        return (noise_pred.float() - batch.noise).square().mean((1, 2, 3))
