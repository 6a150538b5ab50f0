"""Options that several commands share."""

from typing import Annotated, Any

import typer

from evenreel.settings import CONTROL_KINDS

CONTROL, ADAPTER = "ControlNet", "Adapter"
"""Groups of options on help pages."""


def option(panel: str, help_text: str, **details: Any) -> Any:
    """An option in a group of its help page."""
    return typer.Option(help=help_text, rich_help_panel=panel, **details)


ControlName = Annotated[
    str,
    option(
        CONTROL, "A ControlNet made for the model: a diffusers folder or a hub name.", show_default="none"
    ),
]
ControlKind = Annotated[
    str,
    option(
        CONTROL,
        "What it is shown: `canny`, the edges of the frames; `depth` and `none`, the frames of --control-clip as they "
        "are, for evenreel makes no depth maps itself.",
        metavar="|".join(CONTROL_KINDS),
    ),
]
ControlScale = Annotated[float, option(CONTROL, "How much of it counts.")]
ControlClip = Annotated[
    str,
    option(CONTROL, "A clip or folder of images with a frame for each frame of the result.", metavar="CLIP"),
]
AdapterFile = Annotated[
    str,
    option(
        ADAPTER,
        "A file made for the model by `evenreel train adapter`, or `mini`, the one for the packaged model.",
        metavar="FILE",
        show_default="none",
    ),
]
AdapterScale = Annotated[
    float | None, option(ADAPTER, "How much of it counts; 0 is none.", show_default="as the file says")
]
AdapterWindow = Annotated[
    str,
    option(
        ADAPTER,
        "Noise levels at which it is at work, from 0 (clean) to 1.",
        metavar="START:END",
        show_default="as the file says",
    ),
]
AdapterFused = Annotated[
    bool, typer.Option("--adapter-fused", help="More memory, no time.", rich_help_panel=ADAPTER)
]
