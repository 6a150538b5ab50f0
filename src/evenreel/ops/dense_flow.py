"""Dense optical flow between two pictures, estimated by OpenCV."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
"""Luma (BT.601) of a picture, (height, width)."""
Field = NDArray[np.float32]
"""Pixels (x, y) by which what is seen at each place of a picture lies elsewhere in another, (height, width, 2)."""


class FlowError(Exception):
    """Pictures are such that no flow can be estimated."""


class DenseFlow:
    """Dense inverse search (Kroeger et al., arXiv:1603.03590), preset medium.

    The flow of two pictures is the same whatever the number of threads: the search passes on what it finds inside a
    stripe of the picture, and OpenCV makes as many stripes as there are threads.
    """

    def __init__(self) -> None:
        """Raises ImportError where OpenCV is not installed."""
        import cv2

        self._cv2: Any = cv2  # its stubs know half of it
        self._search = self._cv2.DISOpticalFlow_create(self._cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def grey(self, pixels: NDArray[np.uint8]) -> Grey:
        """Return the luma of an RGB picture, (height, width, 3)."""
        return self._cv2.cvtColor(np.ascontiguousarray(pixels), self._cv2.COLOR_RGB2GRAY)

    def between(self, one: Grey, other: Grey, start: Field | None = None) -> Field:
        """Return where what `one` shows lies in `other`; `start` is a first guess.

        Raises: FlowError for pictures that are too small.
        """
        try:
            with self._one_thread():
                return self._search.calc(one, other, None if start is None else start.astype(np.float32))
        except self._cv2.error as error:
            height, width = one.shape
            raise FlowError(f"OpenCV estimates no flow for frames of {width} x {height} pixels") from error

    @contextmanager
    def _one_thread(self) -> Iterator[None]:
        before = self._cv2.getNumThreads()
        self._cv2.setNumThreads(1)
        try:
            yield
        finally:
            self._cv2.setNumThreads(before)
