"""What a package of somebody else's might offer, good and bad."""

from evenreel.metrics.base import Metric


class Brightness(Metric):
    """Mean brightness of the edit.

    Of no use.
    """

    better = "higher"

    def __init__(self, inputs):
        super().__init__(inputs)
        self.seen = []

    def add(self, window):
        self.seen.append(window.edit.mean())

    def value(self):
        return sum(self.seen) / len(self.seen)


class Nowhere(Brightness):
    """A figure that comes out as NaN."""

    def value(self):
        return float("nan")


class WithoutDirection(Metric):
    """It does not say which way is good."""

    def add(self, window):
        pass

    def value(self):
        return 1.0


class Greedy(Brightness):
    """It needs what nobody can give."""

    needs = ("luck",)


NO_METRIC = 3
