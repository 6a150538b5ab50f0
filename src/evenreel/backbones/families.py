"""Stable Diffusion models of either family, 1.x and 2.x or XL, opened as what they are."""

import torch

from evenreel.backbones import hub
from evenreel.backbones.autoencoder import find_autoencoder
from evenreel.backbones.devices import MIXED, choose_device, choose_dtype
from evenreel.backbones.recognise import recognise
from evenreel.backbones.safetensors_file import read_header
from evenreel.backbones.sdxl.model import StableDiffusionXL
from evenreel.backbones.sdxl.single_file import SDXLCheckpoint
from evenreel.backbones.sdxl_folder import SDXLFolder
from evenreel.backbones.single_file import CheckpointFile
from evenreel.backbones.stable_diffusion import StableDiffusion
from evenreel.errors import WeightsError, argument
from evenreel.files import expanded


def load(
    location: str,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    download: bool = False,
    vae: str = "",
    tokenizer: str = "",
    clip_skip: int = 1,
    prediction_type: str = "",
    preset: str = "",
) -> StableDiffusion:
    """Open a model: a folder, one file, or a name on the Hugging Face hub (fetched only with `download`).

    `vae` names an autoencoder, `tokenizer` a folder, in the place of the model's own; `clip_skip` counts the layers of
    the text encoder from the last (1) backwards; `prediction_type` says of a file in one piece what it predicts;
    `preset` is empty or `low-memory`.
    Raises: WeightsError, SettingsError.
    """
    if not location.strip():
        raise WeightsError("stable-diffusion needs a model; write stable-diffusion:FOLDER, or :FILE.")
    hub.forbid_remote_code()
    chosen = choose_device(device)
    path = expanded(location)
    if path.is_file():
        is_xl = recognise(read_header(path)).family == "sdxl"
        model = (SDXLCheckpoint if is_xl else CheckpointFile)(path, prediction_type=prediction_type or None)
    else:
        model = hub.find(location, download=download)
        if prediction_type:
            raise WeightsError(
                f"{location}: a folder says itself what its model predicts; leave {argument('prediction_type')} out."
            )
        is_xl = isinstance(model, SDXLFolder)
    found = (StableDiffusionXL if is_xl else StableDiffusion)(
        model,
        name=location,
        device=chosen,
        dtype=choose_dtype(dtype, chosen),
        vae=find_autoencoder(vae, download=download, family="sdxl" if is_xl else "sd1") if vae else None,
        tokenizer=expanded(tokenizer) if tokenizer else None,
        clip_skip=clip_skip,
        preset=preset,
    )
    found.mixed = dtype == MIXED
    told = {"vae": vae, "tokenizer": tokenizer, "prediction_type": prediction_type, "preset": preset}
    found.options = {name: value for name, value in told.items() if value}
    if clip_skip != 1:
        found.options = {**found.options, "clip_skip": clip_skip}
    return found
