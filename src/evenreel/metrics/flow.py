"""Where the source's motion comes from: known exactly, read from files, or estimated from its frames."""

import struct
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from evenreel.errors import ClipError, ResourceError
from evenreel.metrics.unavailable import UnavailableError
from evenreel.ops.dense_flow import DenseFlow, FlowError
from evenreel.ops.warp import Flow, Visible, carried_back, visible_by_return
from evenreel.types import Frames
from evenreel.video.images import natural_key

FLO_TAG = 202021.25
"""First number of a .flo file (Baker et al., the Middlebury benchmark)."""
SUFFIXES = (".flo", ".npy")
BACKWARD = "backward"
"""Folder beside the files that holds the flow from each frame to the one before."""


@runtime_checkable
class FlowSource(Protocol):
    """Anything that knows how a clip moves."""

    name: str
    """For people: where the flow comes from."""

    def between(self, run: Frames, first: int) -> tuple[Flow, Visible]:
        """Return the flow from each frame of `run` to the next, and where it holds; `first` is the number of its first
        frame."""
        ...


class KnownFlow:
    """Exact flow in memory, of a whole clip: one row for each pair of neighbours."""

    name = "exact"

    def __init__(self, flow: Flow, visible: Visible) -> None:
        self.flow, self.visible = flow, visible

    def between(self, run: Frames, first: int) -> tuple[Flow, Visible]:
        """Return the rows of these frames."""
        end = first + len(run) - 1
        return self.flow[first:end], self.visible[first:end]


class EstimatedFlow:
    """Dense inverse search (Kroeger et al., arXiv:1603.03590) from OpenCV, preset medium, on luma (BT.601).

    A place counts as visible where going to the next frame and back ends at home; see `visible_by_return`.
    """

    name = "estimated by dense inverse search (OpenCV, preset medium), forward and backward"

    def __init__(self) -> None:
        """Raises ImportError where OpenCV is not installed."""
        self._dense = DenseFlow()

    def between(self, run: Frames, first: int) -> tuple[Flow, Visible]:
        """Estimate both directions for each pair of neighbours."""
        del first
        grey = [self._grey(frame) for frame in run]
        size = run.shape[-2:]
        forward, backward = torch.zeros(len(run) - 1, 2, *size), torch.zeros(len(run) - 1, 2, *size)
        for pair in range(len(run) - 1):
            forward[pair] = self._flow(grey[pair], grey[pair + 1])
            backward[pair] = self._flow(grey[pair + 1], grey[pair])
        return forward, visible_by_return(forward, backward)

    def _grey(self, frame: Tensor) -> np.ndarray:
        pixels = (frame * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        return self._dense.grey(pixels)

    def _flow(self, one: np.ndarray, other: np.ndarray) -> Tensor:
        try:
            return torch.from_numpy(self._dense.between(one, other)).movedim(-1, 0)
        except FlowError as error:
            raise UnavailableError(str(error)) from error


class FlowFiles:
    """Flow in a folder: one .flo or .npy file for each pair of neighbours, in the order of their names.

    A .npy file holds (height, width, 2) or (2, height, width) floats, without pickle. One file more than pairs is fine
    (the flow out of the last frame); still more are those of a whole source of which a part was edited. A folder
    `backward` in it, with as many files, holds the flow from each next frame to the one before; without it, it is made
    by carrying the forward flow along itself, and where two things land on one place neither counts.
    """

    def __init__(self, folder: Path, start: int = 0, count: int | None = None) -> None:
        """`count` frames (None: unknown) from number `start` of the source on will be looked at.

        Raises ClipError for a folder that holds no flow, less backward than forward flow, or a number of files that
        may be meant in two ways.
        """
        self.forward = _listed(folder)
        if count is not None and start == 1 and len(self.forward) == count:
            raise ClipError(
                f"{folder} holds {count} files of flow, which may be those of the whole source or of the {count} "
                f"frames that were edited and one more; keep the {count - 1} between those frames."
            )
        of_the_part = count is not None and len(self.forward) in (count - 1, count)
        self.offset = 0 if of_the_part else start
        has_backward = (folder / BACKWARD).is_dir()
        self.backward = _listed(folder / BACKWARD) if has_backward else None
        if self.backward is not None and len(self.backward) < len(self.forward) - 1:
            raise ClipError(
                f"{folder} holds {len(self.forward)} files of flow and {folder / BACKWARD} only {len(self.backward)}; "
                "give one for each pair of frames in both."
            )
        self.name = f"given in {folder}, " + ("forward and backward" if has_backward else "forward only")

    def between(self, run: Frames, first: int) -> tuple[Flow, Visible]:
        """Read the files of these frames."""
        pairs = range(self.offset + first, self.offset + first + len(run) - 1)
        if pairs.stop > len(self.forward) or (self.backward is not None and pairs.stop > len(self.backward)):
            raise ClipError(
                f"{self.forward[0].parent} holds {len(self.forward)} files of flow and the source has at least "
                f"{pairs.stop + 1} frames; give one for each pair of frames."
            )
        height, width = run.shape[-2:]
        forward = _stacked(self.forward, pairs, (height, width))
        if self.backward is None:
            return forward, visible_by_return(forward, carried_back(forward))
        return forward, visible_by_return(forward, _stacked(self.backward, pairs, (height, width)))


def read_flow(file: Path) -> Tensor:
    """Return one flow field, (2, height, width) in float32. Raises: ClipError for a file that holds none."""
    try:
        values = _read_flo(file) if file.suffix.lower() == ".flo" else np.load(file, allow_pickle=False)
        values = np.asarray(values, dtype=np.float32)
    except (OSError, ValueError, EOFError, TypeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ClipError(f"{file} holds no flow that can be read ({reason}); make it again.") from error
    except MemoryError as error:
        raise ResourceError(f"{file} does not fit into memory.") from error
    if values.ndim == 3 and values.shape[2] == 2 and values.shape[0] != 2:
        values = values.transpose(2, 0, 1)
    if values.ndim != 3 or values.shape[0] != 2:
        shape = " x ".join(map(str, values.shape))
        raise ClipError(f"{file} has the shape {shape}; flow is height x width x 2, or 2 x height x width.")
    if not np.isfinite(values).all():
        raise ClipError(f"{file} holds NaN or infinite flow; make it again.")
    return torch.from_numpy(np.ascontiguousarray(values))


def _read_flo(file: Path) -> np.ndarray:
    data = file.read_bytes()
    if len(data) < 12:
        raise ValueError("it is cut short")
    tag, width, height = struct.unpack("<fii", data[:12])
    if tag != FLO_TAG or min(width, height) < 1:
        raise ValueError("it does not start like a .flo file")
    if len(data) != 12 + 8 * width * height:
        raise ValueError(f"it has {len(data)} bytes and should have {12 + 8 * width * height}")
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2)


def _stacked(files: tuple[Path, ...], pairs: range, size: tuple[int, int]) -> Flow:
    fields = torch.zeros(len(pairs), 2, *size)
    for row, pair in enumerate(pairs):
        field = read_flow(files[pair])
        if field.shape[1:] != size:
            height, width = field.shape[1:]
            raise ClipError(
                f"{files[pair]} is flow of {width} x {height} pixels and the source has {size[1]} x {size[0]}; "
                "compute it at the size of the source."
            )
        fields[row] = field
    return fields


def _listed(folder: Path) -> tuple[Path, ...]:
    try:
        files = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file()]
    except OSError as error:
        raise ClipError(
            f"{folder} cannot be listed ({error.strerror}); give a folder of .flo or .npy files."
        ) from error
    if not files:
        raise ClipError(f"{folder} holds no flow; give a folder of .flo or .npy files.")
    return tuple(sorted(files, key=natural_key))
