"""A CLIP tokenizer for the world's vocabulary, built the same at every run.

Byte-pair merges are laid so that each word of the captions is one token; any other word falls back to its bytes.
"""

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPTokenizer

from evenreel.world.captions import vocabulary


def build() -> CLIPTokenizer:
    """Return the tokenizer: all bytes, each at the end of a word or not, the merges, and the two marks last."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols = [*letters, *(letter + "</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in vocabulary():
        # Each new merge ranks below all earlier ones, so no earlier word changes.
        while len(tokens := _split(word, symbols, merges)) > 1:
            merges.append((tokens[0], tokens[1]))
            symbols.append(tokens[0] + tokens[1])
    vocab = {symbol: index for index, symbol in enumerate([*symbols, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def _split(word: str, symbols: list[str], merges: list[tuple[str, str]]) -> list[str]:
    vocab = {symbol: index for index, symbol in enumerate(symbols)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, end_of_word_suffix="</w>"))
    return tokenizer.encode(word).tokens
