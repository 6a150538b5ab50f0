"""Words that were learnt by themselves (textual inversion, arXiv:2208.01618), from files of webui and of diffusers."""

from pathlib import Path

import torch

from evenreel.backbones import safetensors_file
from evenreel.backbones.recognise import FAMILIES, embedding_names, recognise
from evenreel.backbones.safetensors_file import read_header
from evenreel.backbones.text import Embedding
from evenreel.errors import WeightsError, argument
from evenreel.files import expanded

LARGEST = 75
"""Vectors of one word: as many tokens as the encoder reads at once."""


def read_embedding(path: str | Path, width: int, token: str | None = None) -> Embedding:
    """The vectors of a file, for a text encoder of `width` features.

    `token` is the word in prompts; by default what the file calls it, else the file's own name. Raises: WeightsError.
    """
    path = expanded(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such embedding file; correct the path.")
    header = read_header(path)
    found = recognise(header)
    if found.kind != "embedding":
        raise WeightsError(
            f"{path}: is {found.said}, not an embedding; name one with {argument('embedding')}."
        )
    name = embedding_names(header)[0]
    header.check_floats([name])
    vectors = safetensors_file.load(path, [name])[name].float()
    vectors = vectors[None] if vectors.ndim == 1 else vectors
    if found.family == "sdxl" or vectors.shape[1] != width:
        named = f" for {FAMILIES[found.family]}" if found.family else ""
        raise WeightsError(
            f"{path}: is an embedding{named} of {vectors.shape[1]} features, and this model's words have {width}; "
            "use one made for this model."
        )
    if not 1 <= len(vectors) <= LARGEST or not bool(torch.isfinite(vectors).all()):
        raise WeightsError(
            f"{path}: must hold from 1 to {LARGEST} vectors of finite numbers; fetch the embedding again."
        )
    own = path.stem if name == "emb_params" else name
    word = (token or own).strip()
    if not word:
        raise WeightsError(
            f"{path}: gives its word no name; add one behind the file, as in {path.name}:word."
        )
    return Embedding(word, vectors)
