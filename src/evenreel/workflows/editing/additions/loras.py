"""What is put on top of a model for a run: LoRAs, embeddings, and how prompts are read."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenreel.adapters.foreign_lora import ForeignLora, loras_attached, read_lora
from evenreel.backbones import Backbone
from evenreel.backbones.embeddings import read_embedding
from evenreel.backbones.prompt_syntax import strange
from evenreel.backbones.sharing import exclusive
from evenreel.backbones.text import Embedding, words_pattern
from evenreel.errors import SettingsError, argument
from evenreel.files import expanded
from evenreel.settings.kinds import split_file
from evenreel.workflows.editing.records import record

LARGEST_WEIGHT = 10.0


@dataclass(frozen=True)
class Additions:
    """LoRAs and embeddings of a run, opened, and what should be known of its prompts."""

    loras: tuple[tuple[ForeignLora, float], ...]
    """Each with its weight."""
    embeddings: tuple[tuple[Path, Embedding], ...]
    syntax: str
    notices: tuple[str, ...]
    """What was assumed, or read as plain words: a sentence each."""

    @classmethod
    def opened(
        cls,
        backbone: Backbone,
        prompts: list[str],
        *,
        loras: Sequence[str] | None,
        embeddings: Sequence[str] | None,
        syntax: str | None,
    ) -> "Additions":
        """Open what settings name, as `FILE:WEIGHT` and `FILE:WORD`. Raises: WeightsError, SettingsError."""
        syntax, loras, embeddings = syntax or "weights", loras or (), embeddings or ()
        text = backbone.text
        if (loras or embeddings) and text is None:
            raise SettingsError(f"model {backbone.name} takes no LoRAs and no embeddings; leave them out.")
        found = tuple((read_lora(name, backbone), weight) for name, weight in map(_weighed, loras))
        widths = () if text is None else text.widths
        words: list[tuple[Path, Embedding]] = []
        for told in embeddings:
            name, token = split_file(told)
            path = expanded(name)
            words.append((path, read_embedding(path, widths, token)))
        _check_different([word.token.lower() for _, word in words])
        notices: list[str] = list(backbone.notices)
        odd = () if syntax == "plain" else tuple(dict.fromkeys(bit for p in prompts for bit in strange(p)))
        if odd:
            notices.append(f"in the prompt {', '.join(odd)} is read as plain words.")
        notices += [
            f"no prompt has the word {word.token!r}, so the embedding {path.name} has no effect."
            for path, word in words
            if not any(words_pattern([word.token]).search(prompt) for prompt in prompts)
        ]
        return cls(found, tuple(words), syntax, tuple(notices))

    @contextmanager
    def at_work(self, backbone: Backbone) -> Generator[None]:
        """Put everything in its place in the model while inside."""
        with ExitStack() as stack:
            text = backbone.text
            if self.loras:
                stack.enter_context(loras_attached(backbone, self.loras))
            if text is not None and (self.embeddings or self.syntax != text.syntax):
                stack.enter_context(exclusive(backbone.unet))
                stack.enter_context(exclusive(text))
                stack.enter_context(text.reading(self.syntax, [word for _, word in self.embeddings]))
            yield

    def described(self) -> dict[str, Any]:
        """Describe the LoRAs and embeddings, for the record."""
        return {
            "loras": [
                {
                    "path": str(lora.path.absolute()),
                    "sha256": lora.sha256,
                    "weight": weight,
                    "unet": len(lora.unet),
                    "text_encoder": len(lora.text),
                    **({"text_encoder_2": len(lora.text_2)} if lora.text_2 else {}),
                }
                for lora, weight in self.loras
            ],
            "embeddings": [
                {"path": str(path.absolute()), "sha256": record.hash_of((path,)), "token": word.token}
                for path, word in self.embeddings
            ],
            "notices": list(self.notices),
        }


def _weighed(told: str) -> tuple[str, float]:
    """`FILE` or `FILE:WEIGHT`."""
    name, tail = split_file(told)
    try:
        weight = 1.0 if tail is None else float(tail)
    except ValueError:
        weight = float("nan")
    if not abs(weight) <= LARGEST_WEIGHT:
        raise SettingsError(
            f"{argument('lora')} must be FILE or FILE:WEIGHT with a weight from -{LARGEST_WEIGHT:g} to "
            f"{LARGEST_WEIGHT:g}, got {told[:200]!r}."
        )
    return name, weight


def _check_different(tokens: list[str]) -> None:
    for token in tokens:
        if tokens.count(token) > 1:
            raise SettingsError(
                f"two embeddings are called {token!r}; name another word behind one of the files, as in FILE:word."
            )
