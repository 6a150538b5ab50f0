"""What is said of a statement of the papers, and where to look it up."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from evenreel.theory.measured import Measured

Status = Literal["holds", "holds in part", "false as stated"]

PAPERS = {
    "GE": "Enhancing Low-Cost Video Editing with Lightweight Adaptors and Temporal-Aware Inversion "
    "(arXiv:2501.04606), appendix C",
    "TH": "Efficient Temporal Consistency in Diffusion-Based Video Editing with Adaptor Modules "
    "(arXiv:2504.16016), section 4",
}
"""C.x numbers GE, 4.x numbers TH."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement, as printed, as it is, and the code that tells the one from the other."""

    ids: tuple[str, ...]
    """Numbers: C.x (GE) and 4.x (TH); R.x are remarks of ours."""
    title: str
    claim: str
    """As printed, in words and formula."""
    hypotheses: str
    """Under which it is printed."""
    status: Status
    fault: str = ""
    """What is wrong with it."""
    gist: str
    """What is true, in a line."""
    truth: str
    """What is true: the corrected formula."""
    conditions: str
    """Under which that is true."""
    why: str
    """The argument, in a few lines."""
    sharp: str
    """Whether the corrected bound is reached, and where."""
    meaning: str
    """What follows for editing."""
    design: str = ""
    """Where the derivation here differs from an earlier one."""
    counterexample: Callable[[], tuple[Measured, ...]] | None = field(default=None, repr=False)
    """Cases that break what is printed: each returned value exceeds its bound."""
    check: Callable[[], tuple[Measured, ...]] = field(repr=False)
    """The corrected form at its worst known case: each returned value keeps its bound."""

    @property
    def id(self) -> str:
        """The first number."""
        return self.ids[0]

    @property
    def source(self) -> str:
        """Papers and numbers."""
        parts = [
            f"{paper} {', '.join(numbers)}"
            for paper, letter in (("GE", "C."), ("TH", "4."))
            if (numbers := [one for one in self.ids if one.startswith(letter)])
        ]
        return "; ".join(parts) or "remark of ours on GE eq. 4, 6 and 19"

    def row(self) -> dict[str, Any]:
        """Return everything as plain text and numbers; the counterexample and the check are run."""
        words = (
            "title",
            "claim",
            "hypotheses",
            "status",
            "fault",
            "gist",
            "truth",
            "conditions",
            "why",
            "sharp",
            "meaning",
            "design",
        )
        return {
            "ids": list(self.ids),
            "source": self.source,
            **{name: getattr(self, name) for name in words},
            "counterexample": [plain(one) for one in self.counterexample()] if self.counterexample else [],
            "check": [plain(one) for one in self.check()],
        }


def plain(measured: Measured) -> dict[str, Any]:
    """Return a comparison as a row."""
    row = asdict(measured)
    del row["slack"]
    return {**row, "holds": measured.holds, "share": measured.share}
