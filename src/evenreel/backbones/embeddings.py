"""Words that were learnt by themselves (textual inversion, arXiv:2208.01618), from files of webui and of diffusers."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from evenreel.backbones import safetensors_file
from evenreel.backbones.recognise import FAMILIES, embedding_names, recognise
from evenreel.backbones.safetensors_file import Header, read_header
from evenreel.backbones.text import Embedding
from evenreel.errors import WeightsError, argument
from evenreel.files import expanded

NAMELESS = ("emb_params", "*", "string_to_param.*")
"""Names of tensors that are none of the word: trainings write them for any."""
LARGEST = 75
"""Vectors of one word: as many tokens as the encoder reads at once."""


def read_embedding(path: str | Path, widths: Sequence[int], token: str | None = None) -> Embedding:
    """Read the vectors of a file, for text encoders of so many features: one, or the two of SD-XL.

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
    names = embedding_names(header)
    vectors = read_vectors(header)
    _check_widths(path, found.family, vectors, widths)
    own = names[0] if len(names) == 1 and names[0] not in NAMELESS else path.stem
    word = (token or own).strip()
    if not word:
        raise WeightsError(
            f"{path}: gives its word no name; add one behind the file, as in {path.name}:word."
        )
    return Embedding(word, *vectors)


def read_vectors(header: Header) -> list[Tensor]:
    """Return the vectors of an embedding's file for each text encoder, (vectors features). Raises: WeightsError.

    Checked is all that does not depend on a model.
    """
    path, names = header.path, embedding_names(header)
    header.check_floats(names)
    loaded = safetensors_file.load(path, names)
    vectors = [tensor[None] if tensor.ndim == 1 else tensor for tensor in (loaded[n].float() for n in names)]
    counts = {len(tensor) if tensor.ndim == 2 else 0 for tensor in vectors}
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in vectors)
    if not all(1 <= count <= LARGEST for count in counts) or not finite:
        raise WeightsError(
            f"{path}: must hold from 1 to {LARGEST} vectors of finite numbers; fetch the embedding again."
        )
    if len(counts) > 1:
        raise WeightsError(
            f"{path}: must hold as many vectors for each text encoder; fetch the embedding again."
        )
    return vectors


def _check_widths(path: Path, family: str, vectors: Sequence[Tensor], widths: Sequence[int]) -> None:
    has, wanted = [tensor.shape[1] for tensor in vectors], list(widths)
    if has != wanted:
        named = f" for {FAMILIES[family]}" if family else ""
        raise WeightsError(
            f"{path}: is an embedding{named} of {_and(has)} features, and this model's words have {_and(wanted)}; "
            "use one made for this model."
        )


def _and(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))
