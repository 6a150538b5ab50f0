"""The mini model's CLIP: its text tower conditions the UNet, its vision tower gives 50 tokens of width 192.

It is trained in two parts, so that the UNet need not wait for the slower one: `text` with a narrow vision tower that is
thrown away, then `vision` against the finished text tower (locked-image tuning the other way round, arXiv:2111.07991).
"""

import random
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer

from evenreel.training.mini.drawing import generator_of
from evenreel.training.mini.pictures import Pool
from evenreel.training.trainee import Draw, Trainee
from evenreel.types import Frames
from evenreel.world import ATTRIBUTES, Scene, caption, random_scene

WIDTH = 128
"""Of the text tower, and of the space where texts and pictures meet."""
VISION_WIDTH = 192
IMAGE_SIZE, PATCH = 112, 16
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's own normalisation."""


def build(tokenizer: CLIPTokenizer, vision_width: int) -> CLIPModel:
    """Return an untrained CLIP: 3 layers read, 4 layers of `vision_width` see."""
    marks = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    tower = {"num_attention_heads": 4, "projection_dim": WIDTH}
    text = {
        **tower,
        **marks,
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 3,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
    }
    vision = {
        **tower,
        "hidden_size": vision_width,
        "intermediate_size": 4 * vision_width,
        "num_hidden_layers": 4,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH, **marks))
    # Plain attention: on a CPU the fused kernel's backward pass is slower for so few tokens.
    model.set_attn_implementation("eager")
    return model


def with_text_of(model: CLIPModel, other: CLIPModel) -> CLIPModel:
    """Give `model` the text tower of `other`, and freeze it there."""
    own = model.state_dict()
    model.load_state_dict(
        own | {name: value for name, value in other.state_dict().items() if name.startswith("text_")}
    )
    for name, parameter in model.named_parameters():
        if name.startswith("text_"):
            parameter.requires_grad_(False)
    return model


class ClipBatch(NamedTuple):
    """Pictures, their captions and as many of scenes that differ in one attribute, and what they show."""

    pictures: Float[Tensor, "pictures 3 height width"]
    tokens: Int[Tensor, "texts length"]
    labels: Int[Tensor, "attributes pictures"]


class ClipTrainee(Trainee):
    """CLIP's contrast against the batch and against one-attribute-off captions.

    Linear heads that name attributes from the picture's embedding only speed learning up.
    """

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        self.heads = nn.ModuleDict(
            {name: nn.Linear(WIDTH, len(values)) for name, values in ATTRIBUTES.items()}
        )

    def forward(self, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one micro-batch, and its figures."""
        model, count = self.clip, len(batch.pictures)
        seen = model.get_image_features(preprocess(batch.pictures)).pooler_output.float()
        read = functional.normalize(model.get_text_features(batch.tokens).pooler_output, dim=-1)
        named = torch.stack(
            [
                functional.cross_entropy(head(seen).float(), truth)
                for head, truth in zip(self.heads.values(), batch.labels, strict=True)
            ]
        ).sum()
        scores = functional.normalize(seen, dim=-1) @ read.float().T * model.logit_scale.exp().clamp(max=100)
        scores, truth = scores.float(), torch.arange(count, device=scores.device)
        contrast = functional.cross_entropy(scores, truth) + functional.cross_entropy(
            scores[:, :count].T, truth
        )
        right = (scores.argmax(-1) == truth).float().mean()
        figures = {"contrast": contrast.detach(), "named": named.detach(), "right": right}
        return contrast + 0.3 * named, figures


def preprocess(pictures: Tensor) -> Tensor:
    """Bring frames in [0, 1] of any size to what the vision tower takes."""
    small = functional.interpolate(
        pictures, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True, align_corners=False
    )
    mean, std = (torch.tensor(each, device=small.device).view(3, 1, 1) for each in (MEAN, STD))
    return (small - mean) / std


def varied(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Return each picture mirrored or not, slightly turned, zoomed and shifted, lest the tower learn them by heart."""
    count = len(pictures)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    angle, zoom = between(-0.15, 0.15), between(0.85, 1.1)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    rows = [angle.cos() * zoom * mirror, -angle.sin() * zoom, between(-0.15, 0.15)]
    rows += [angle.sin() * zoom * mirror, angle.cos() * zoom, between(-0.15, 0.15)]
    maps = torch.stack(rows, dim=-1).view(count, 2, 3)
    grid = functional.affine_grid(maps, [count, 3, IMAGE_SIZE, IMAGE_SIZE], align_corners=False)
    return functional.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)


def labels(scenes: list[Scene], name: str) -> Tensor:
    """Return the class index of an attribute in each scene."""
    return torch.tensor([ATTRIBUTES[name].index(scene.attribute(name)) for scene in scenes])


def near_miss(scene: Scene, rng: random.Random) -> Scene:
    """Return the scene with one attribute changed."""
    name = rng.choice(list(ATTRIBUTES))
    return scene.edited(
        **{name: rng.choice([value for value in ATTRIBUTES[name] if value != scene.attribute(name)])}
    )


def embed_text(model: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return normalised text embeddings. Attention is causal, so padding beyond the longest text changes nothing."""
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    return functional.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)


def embed_pictures(model: CLIPModel, pictures: Tensor) -> Tensor:
    """Return normalised picture embeddings of frames in [0, 1]."""
    return functional.normalize(model.get_image_features(preprocess(pictures)).pooler_output, dim=-1)


def drawn(tokenizer: CLIPTokenizer, pool: Pool, device: torch.device, seed: int, batch: int = 48) -> Draw:
    """Return micro-batches for `ClipTrainee`."""

    def draw(number: int) -> ClipBatch:
        generator = generator_of(torch.device("cpu"), "clip", seed, number)
        seeds, pictures = pool.batch(generator, batch)
        rng = random.Random(int(seeds.sum()))
        scenes = [random_scene(int(seed)) for seed in seeds]
        texts = [caption(scene, rng) for scene in scenes]
        texts += [caption(near_miss(scene, rng), rng) for scene in scenes]
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").input_ids
        truths = torch.stack([labels(scenes, name) for name in ATTRIBUTES])
        return ClipBatch(varied(pictures, generator).to(device), tokens.to(device), truths.to(device))

    return draw


def text_tower(whole: CLIPModel) -> CLIPTextModel:
    """Return the text tower of a CLIP by itself."""
    tower = CLIPTextModel(whole.config.text_config)
    weights = {name.removeprefix("text_model."): value for name, value in whole.state_dict().items()}
    tower.load_state_dict({name: weights[name.removeprefix("text_model.")] for name in tower.state_dict()})
    return tower.eval().requires_grad_(False)


def load(folder: Path) -> tuple[CLIPModel, CLIPTokenizer]:
    """Return the CLIP that is packed with a mini model, and its tokenizer."""
    model = CLIPModel.from_pretrained(folder / "clip", dtype=torch.float32, local_files_only=True)
    return model.eval(), CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)


@torch.inference_mode()
def similarities(model: CLIPModel, tokenizer: CLIPTokenizer, frames: Frames, texts: list[str]) -> Tensor:
    """Return cosines (frames, texts) of embeddings."""
    return embed_pictures(model, frames) @ embed_text(model, tokenizer, texts).T
