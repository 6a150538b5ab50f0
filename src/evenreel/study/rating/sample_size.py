"""How many people must rate for a preference of some strength to be found."""

import math
from statistics import NormalDist

from evenreel.settings import check_range


def raters_needed(
    preference: float,
    *,
    pairs: int = 20,
    power: float = 0.8,
    tests: int = 3,
    correlation: float = 0.1,
    level: float = 0.05,
) -> int:
    """Return how many raters a two-sided test of a share of preferences against one half needs.

    `preference` is the true share that prefers the one condition, each rater answers `pairs` of them, `tests` are made
    at once (Bonferroni, which Holm's method never needs more than), and `correlation` is how alike the answers of one
    rater are: k answers of m each count as k m / (1 + (m - 1) correlation) (Kish 1965). Normal approximation.
    Raises: SettingsError.
    """
    check_range("preference", preference, 0, 1)
    check_range("power", power, 0.01, 0.999)
    check_range("correlation", correlation, 0, 1)
    check_range("pairs", pairs, 1, 10_000)
    check_range("tests", tests, 1, 10_000)
    effect = abs(preference - 0.5)
    check_range("preference's distance from one half", effect, 0.01, 0.49)
    normal = NormalDist()
    z = normal.inv_cdf(1 - level / tests / 2) * 0.5
    z += normal.inv_cdf(power) * math.sqrt(preference * (1 - preference))
    answers = (z / effect) ** 2 * (1 + (pairs - 1) * correlation)
    return max(2, math.ceil(answers / pairs))
