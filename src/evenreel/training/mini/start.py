"""A finished mini model to start from: weights of its parts in full precision."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import nn
from transformers import CLIPModel, CLIPTextModel

from evenreel.errors import WeightsError
from evenreel.metrics.judge import Judge
from evenreel.motion.folder import load_motion
from evenreel.training.mini.clip import ClipTrainee
from evenreel.training.mini.recipe import CONTROLS

FOLDERS = {"vae": "vae", "decoder": "vae", "vision": "clip", "text": "text_encoder", "unet": "unet"}
"""Where the parts lie in a packed model; the judge is a file."""
BESIDE = ("motion", *CONTROLS)
"""Parts that lie in folders beside it."""
NEEDED = ("vae", "text_encoder", "unet", "judge.safetensors")
"""Without which a folder is not a mini model; nothing but CLIP and the vision tower needs CLIP's folder."""


class StartFolder:
    """A packed model, such as the packaged one."""

    def __init__(self, folder: Path) -> None:
        """Raises: WeightsError for a folder that holds no mini model."""
        self.folder = folder
        if lacking := [name for name in NEEDED if not (folder / name).exists()]:
            raise WeightsError(
                f"{folder} is not a mini model (it lacks {lacking[0]}); name one to start from."
            )

    def holds(self, part: str) -> bool:
        """Return whether it has weights of a part. (Of `text`, only the tower is kept, so it cannot be trained on.)"""
        if part in BESIDE:
            return self._beside(part) is not None
        return part == "judge" or (part in FOLDERS and (self.folder / FOLDERS[part]).exists())

    def _beside(self, part: str) -> Path | None:
        """The folder of a part that was trained with the model and lies beside it."""
        beside = (self.folder.with_name(name) for name in (f"{self.folder.name}-{part}", part))
        return next((folder for folder in beside if folder.is_dir()), None)

    def load(self, part: str, model: nn.Module) -> nn.Module:
        """Return the part's weights, put into an untrained part. Raises: WeightsError for another layout."""
        match part:
            case "vae" | "decoder":
                found = AutoencoderKL.from_pretrained(self.folder / "vae", torch_dtype=torch.float32)
                if isinstance(model, AutoencoderKL):
                    model.register_to_config(scaling_factor=found.config.scaling_factor)
            case "unet":
                found = UNet2DConditionModel.from_pretrained(self.folder / "unet", torch_dtype=torch.float32)
            case "motion":
                found = load_motion(self._kept(part))
            case _ if part in CONTROLS:
                found = ControlNetModel.from_pretrained(self._kept(part), torch_dtype=torch.float32)
            case "judge":
                found = Judge.load(self.folder / "judge.safetensors")
            case "vision":
                assert isinstance(model, ClipTrainee)
                self._copy(part, self.clip(), model.clip)
                return model
            case _:
                raise WeightsError(f"{self.folder} keeps too little of {part} to train it on; begin it anew.")
        self._copy(part, found, model)
        return model

    def _kept(self, part: str) -> Path:
        kept = self._beside(part)
        if kept is None:
            raise WeightsError(f"{self.folder} has no {part} beside it; train it first.")
        return kept

    def clip(self) -> CLIPModel:
        """Return both towers of the CLIP that a training starts from."""
        model = CLIPModel.from_pretrained(self.folder / "clip", dtype=torch.float32)
        model.set_attn_implementation("eager")  # as `clip.build` has it
        return model

    def text_encoder(self) -> CLIPTextModel:
        """Return the text tower that a training starts from, frozen."""
        model = CLIPTextModel.from_pretrained(self.folder / "text_encoder", dtype=torch.float32)
        return model.eval().requires_grad_(False)

    def _copy(self, part: str, found: nn.Module, model: nn.Module) -> None:
        try:
            model.load_state_dict(found.state_dict())
        except RuntimeError as error:
            raise WeightsError(
                f"{self.folder}: its {part} has another layout than the one that is trained; begin it anew."
            ) from error
