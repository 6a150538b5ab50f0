"""Masks by models that the user has: a SAM 2 follows one along a clip, a CLIPSeg finds one from words.

Both are networks of transformers, from folders with safetensors weights; nothing is fetched.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from evenreel.backbones.devices import choose_device
from evenreel.backbones.folder import PartFolder
from evenreel.backbones.language import LanguageFolder, open_words
from evenreel.backbones.vision import IMAGENET_MEAN, IMAGENET_STD, Resized, normalised, resized
from evenreel.backbones.weights import load_part
from evenreel.errors import SettingsError, WeightsError, argument
from evenreel.files import expanded
from evenreel.types import Frames

Painted = Bool[Tensor, "height width"]
"""What belongs to the object, in one frame."""
Likeness = Float[Tensor, "frames height width"]
"""How surely each place is what the words say, from 0 to 1."""
WORDS_SIDE = 352
"""Side of the squares that a CLIPSeg sees, as its published processor has it."""


class FollowerFolder(PartFolder):
    """A SAM 2 for clips in transformers' layout: the folder holds config.json and model.safetensors."""

    gigabytes = 0.2

    parts: Mapping[str, tuple[str, str]] = MappingProxyType({"": ("Sam2VideoModel", "model")})
    wanted = "a SAM 2, for example facebook/sam2.1-hiera-tiny"

    def check_kind(self) -> None:
        """Raise WeightsError unless the configuration is that of a SAM 2 for clips; no weights are needed."""
        config = self.config("")
        kind = config.get("model_type")
        if kind != "sam2_video" or "auto_map" in config:
            raise WeightsError(
                f"{self.path}: must be a SAM 2 for clips (sam2_video), got {str(kind)[:60]}; use {self.wanted}."
            )


class WordsFolder(LanguageFolder):
    """A CLIPSeg: config.json, model.safetensors and its tokenizer in one folder."""

    gigabytes = 0.6

    parts: Mapping[str, tuple[str, str]] = MappingProxyType({"": ("CLIPSegForImageSegmentation", "model")})
    wanted = "a CLIPSeg, for example CIDAS/clipseg-rd64-refined"


class Follower:
    """A SAM 2 that follows a mask from frame to frame (arXiv:2408.00714)."""

    def __init__(self, folder: FollowerFolder, *, device: torch.device) -> None:
        """Load it, in float32. Raises: WeightsError."""
        from transformers import Sam2VideoModel

        folder.check()
        self.fingerprint = folder.fingerprint
        self.device = device
        self.model: Any = load_part(folder, "", Sam2VideoModel, device, torch.float32)
        side = self.model.config.image_size
        self.size: tuple[int, int] = (side, side) if isinstance(side, int) else (side[0], side[1])
        config = self.model.config
        self.reach = max(config.num_maskmem, config.max_object_pointers_in_encoder)

    @property
    def side(self) -> int:
        """Shorter side of frames in pixels beyond which it sees no more."""
        return max(self.size)

    def follow(self, frame: Frames, painted: Painted) -> "Followed":
        """Begin at one frame (1 3 height width) with what was painted on it."""
        return Followed(self, frame, painted)

    def seen(self, frame: Frames) -> Resized:
        """Return a frame as the published processor shows it: a square, whatever its shape, with ImageNet's mean and
        deviation."""
        return normalised(resized(frame, self.size, "bilinear"), IMAGENET_MEAN, IMAGENET_STD)


class Followed:
    """A mask that is followed through frames, one after the other; backwards too, as only their order counts.

    The network remembers the painted frame and so many before the last as its attention looks at; earlier ones are let
    go here, so that memory does not grow with the clip.
    """

    def __init__(self, follower: Follower, frame: Frames, painted: Painted) -> None:
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        self._follower, self._number = follower, 0
        height, width = painted.shape
        self._session: Any = Sam2VideoInferenceSession(
            video_height=height,
            video_width=width,
            inference_device=follower.device,
            inference_state_device=follower.device,
            video_storage_device=follower.device,
            dtype=torch.float32,
        )
        object_index = self._session.obj_id_to_idx(1)
        shown = interpolate(
            painted[None, None].float(), follower.size, mode="bilinear", align_corners=False, antialias=True
        )
        self._session.add_mask_inputs(object_index, 0, (shown >= 0.5).float())
        self._session.obj_with_new_inputs = [1]
        self._looked_at(frame)

    def next(self, frame: Frames) -> Painted:
        """Return the mask of the next frame, at its size; empty where the object is not seen."""
        self._number += 1
        scores = self._looked_at(frame)
        whole = interpolate(scores, frame.shape[2:], mode="bilinear", align_corners=False)
        return (whole[0, 0] > 0).cpu()

    def _looked_at(self, frame: Frames) -> Float[Tensor, "1 1 rows columns"]:
        follower, number, session = self._follower, self._number, self._session
        found = follower.model(
            inference_session=session, frame=follower.seen(frame).to(follower.device), frame_idx=number
        )
        kept = session.output_dict_per_obj[0]
        for outputs in kept.values():
            for output in outputs.values():
                output.pop("high_res_masks", None)  # 4 MB a frame, which nothing reads any more
        session.processed_frames.pop(number, None)
        kept["non_cond_frame_outputs"].pop(number - follower.reach, None)
        session.frames_tracked_per_obj[0].pop(number - follower.reach, None)
        return found.pred_masks


class WordsModel:
    """A CLIPSeg that tells where in a frame is what some words say (arXiv:2112.10003)."""

    def __init__(self, folder: WordsFolder, *, device: torch.device) -> None:
        """Load it, in float32. Raises: WeightsError."""
        from transformers import CLIPSegForImageSegmentation

        folder.check()
        self.fingerprint = folder.fingerprint
        self._device = device
        self._model: Any = load_part(folder, "", CLIPSegForImageSegmentation, device, torch.float32)
        self._tokenizer = open_words(folder.path)

    @torch.inference_mode()
    def likeness(self, frames: Frames, words: str) -> Likeness:
        """Return how surely each place of frames of any size is what the words say, at their size.

        As published, frames are resized to a square (bilinear, antialiased, clamped), ImageNet's mean and deviation are
        applied, and the sigmoid of what comes out is resized back. Raises: SettingsError for too many words.
        """
        told = self._tokenizer(words, return_tensors="pt")
        most = self._model.config.text_config.max_position_embeddings
        if told.input_ids.shape[1] > most:
            raise SettingsError(
                f"{argument('mask_words')} is {told.input_ids.shape[1]} tokens long, and the model reads {most}; use "
                "fewer words."
            )
        pictures = normalised(
            resized(frames, (WORDS_SIDE, WORDS_SIDE), "bilinear"), IMAGENET_MEAN, IMAGENET_STD
        )
        scores = self._model(
            pixel_values=pictures.to(self._device),
            input_ids=told.input_ids.to(self._device).expand(len(frames), -1),
            attention_mask=told.attention_mask.to(self._device).expand(len(frames), -1),
        ).logits
        sure = scores.reshape(len(frames), 1, *scores.shape[-2:]).float().cpu().sigmoid()
        return interpolate(sure, frames.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def load_follower(location: str, *, device: str | torch.device | None = None) -> Follower:
    """Load a SAM 2 from a folder in transformers' layout, safetensors only. Raises: WeightsError."""
    return Follower(FollowerFolder(expanded(location)), device=choose_device(device))


def load_words(location: str, *, device: str | torch.device | None = None) -> WordsModel:
    """Load a CLIPSeg from a folder in transformers' layout, safetensors only. Raises: WeightsError."""
    return WordsModel(WordsFolder(expanded(location)), device=choose_device(device))
