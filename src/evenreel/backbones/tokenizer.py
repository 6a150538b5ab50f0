"""Tokenizers of text encoders: from a folder, or CLIP's own, which comes with evenreel."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from evenreel.backbones.weights import one_sentence
from evenreel.errors import WeightsError

MERGES = Path(__file__).parent.parent / "weights" / "clip-tokenizer" / "merges.txt"
"""Of CLIP's byte pairs, one merge a line; its licence lies beside it."""
CLIP_WORDS = 49_408
"""Entries of CLIP's vocabulary: bytes, bytes that end a word, merges and two marks."""


def open_tokenizer(folder: Path, vocabulary: int) -> Any:
    """Open the tokenizer of a folder, for a text encoder that knows `vocabulary` tokens. Raises: WeightsError."""
    from transformers import CLIPTokenizer

    if not folder.is_dir():
        raise WeightsError(f"{folder} is missing; give the folder that holds the model's tokenizer.")
    with one_sentence(folder):
        try:
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            if type(error) is Exception:  # which is all that the tokenizers library raises
                raise ValueError(str(error)) from error
            raise
    marks = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    if not all(isinstance(mark, int) for mark in marks) or not isinstance(
        tokenizer.model_max_length, int | float
    ):
        raise WeightsError(
            f"{folder}: says nothing usable of its marks or its length; fetch the model again."
        )
    # A tokenizer without its vocabulary loads silently, and turns every prompt into the same two tokens.
    # numbers may have gaps, and those of the marks around a prompt stand elsewhere in the file
    numbers = (*tokenizer.get_vocab().values(), *tokenizer("").input_ids)
    if not 256 < len(tokenizer) <= vocabulary or max(numbers) >= vocabulary:
        raise WeightsError(f"{folder}: does not fit the text encoder; fetch the model again.")
    return tokenizer


@lru_cache(maxsize=2)
def clip_tokenizer(*, padding: str = "<|endoftext|>") -> Any:
    """Open CLIP's tokenizer; SD 1.x pads prompts with the end mark, SD 2.x with `!`. Raises: WeightsError."""
    from transformers import CLIPTokenizer

    try:
        lines = MERGES.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise WeightsError(f"{MERGES} cannot be read ({error.strerror}); install evenreel again.") from error
    merges = [(first, second) for first, _, second in (line.partition(" ") for line in lines)]
    letters = _letters()
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(first + second for first, second in merges),
    ]
    words += ["<|startoftext|>", "<|endoftext|>"]
    if len(words) != CLIP_WORDS:
        raise WeightsError(f"{MERGES} is damaged; install evenreel again.")
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=padding, model_max_length=77)


def _letters() -> list[str]:
    """Bytes as letters, in CLIP's order: those that can be printed are themselves, the rest follow from U+0100."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]
