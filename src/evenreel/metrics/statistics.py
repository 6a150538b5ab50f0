"""Means with intervals that respect what belongs together: clips are drawn anew, never single measurements."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% interval, and the median beside it."""

    mean: float
    low: float
    high: float
    count: int
    """Clusters it rests on."""
    p: float
    """Two-sided: how often resampled means fall on the other side of zero, doubled; at least 1 / resamples."""
    median: float
    """Of the values: a few clips that go wrong altogether rule a mean, and not this."""

    def excludes(self, value: float) -> bool:
        """Return whether the interval leaves a value out."""
        return not self.low <= value <= self.high


def cluster_bootstrap(
    values: Sequence[float], clusters: Sequence[int | str], *, resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """Return the mean of values with a percentile interval from resampling whole clusters (Field & Welsh 2007).

    Every value weighs the same, so a cluster weighs by its size. Raises ValueError where there is nothing to average.
    """
    if not len(values) or len(values) != len(clusters):
        raise ValueError(
            f"need as many clusters as values and at least one, got {len(values)} and {len(clusters)}."
        )
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, weights=np.asarray(values, dtype=float))
    sizes = np.bincount(index)
    drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    side = min(np.mean(means <= 0), np.mean(means >= 0))
    p = min(1.0, max(2 * float(side), 1 / resamples))
    return Estimate(
        mean=float(np.mean(values)),
        low=float(low),
        high=float(high),
        count=len(names),
        p=p,
        median=float(np.median(values)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that the chance of any false alarm among them stays below the level (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def effect_size(differences: Sequence[float]) -> float | None:
    """Return the mean of paired differences over their deviation (Cohen's d_z), or None if they do not vary."""
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    return float(np.mean(differences)) / spread if spread else None
