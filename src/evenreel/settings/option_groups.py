"""Groups of options on help pages, in their order, and limits and defaults that they show."""

LARGEST_SEED = 2**32 - 1
"""PyTorch's generator on a CPU, which all noise is drawn with, takes no more bits: larger seeds would repeat others."""
LARGEST_STEPS = 1000
EDIT_STEPS = 25
"""Of an edit, where neither it nor the model says otherwise."""
LARGEST_GUIDANCE = 100.0
LARGEST_RATE = 1000.0
GUIDANCE, INTERVAL, STEPS = (
    "7.5; of SD-XL 5; of mini 2.5, in clips from text 4",
    "0:1; of mini in edits by the defaults 0.3:1",
    "25; of mini in edits by the defaults 20",
)
"""Defaults that the model decides, as help pages show them."""

PROMPTS, ALGORITHM, REGION, FRAMES, SOUND, MOTION, CONTROL, ADAPTER, MACHINE = (
    "Prompts",
    "Algorithm",
    "Region",
    "Frames",
    "Sound",
    "Motion",
    "ControlNet",
    "Adapter",
    "Machine",
)
"""Groups of options on help pages."""
