"""How a clip is cut into windows of frames that pass through the model together."""


def cut(frames: int, size: int, first: int) -> list[tuple[int, ...]]:
    """Cut frames into chunks of `size` after one of `first` + 1, so that seams move from step to step."""
    starts = [0, *range(first + 1, frames, size)]
    ends = [*starts[1:], frames]
    return [tuple(range(start, end)) for start, end in zip(starts, ends, strict=True)]
