"""The description that travels with the package: README.md without what only the repository can show."""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface


def without_relative_links(text: str) -> str:
    """Take away pictures that lie in the repository, and keep the words of links that lead into it."""
    text = re.sub(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n\n?", "", text, flags=re.MULTILINE)
    return re.sub(r"\[([^\]]*)\]\((?!https?:|#)[^)]*\)", r"\1", text)


class DescriptionHook(MetadataHookInterface):
    """Fills in `readme`."""

    def update(self, metadata: dict) -> None:
        """Read README.md, as it lies beside pyproject.toml."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": without_relative_links(text)}
