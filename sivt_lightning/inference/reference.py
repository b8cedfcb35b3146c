"""How a number that a model gives is distributed over the good parts of a product, and what a new one's is worth by it.

The number is 0 or more: an image's score, or the highest value of its anomaly map. All is done on its logarithm, since
scores of one product lie within factors, not within sums.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from sivt_lightning.errors import SIVTError

MOST_KNOTS = 512
LEAST = 1e-12  # what stands for 0, which has no logarithm
LARGEST = 100.0  # logarithm of what no float32 reaches
# A score's last digits depend on how many images are computed together, and on the processor: of float32 by up to 2e-7
# of itself, a pixel's by 2e-6. Without room for them a part that looks like one held out could be called anomalous.
ROUNDING = 1e-5
Numbers = Float[np.ndarray, " numbers"]


@dataclass(frozen=True)
class Reference:
    """The share of good parts above a number: between knots, and beyond the last, a straight line in both logarithms.

    Args:
        values: of the knots, ascending.
        shares: of new good parts expected above each, descending.
        decay: beyond the last knot the share falls by e where the number grows by the factor exp(decay).
        held_out: good images that the model has not learned from, on which the shares rest down to 1 / (held_out + 1).
        trained: images that it has learned from, on which lower shares rest.
        shift: by the logarithm of how much the latter's numbers were raised.
        doubt: standard error of that logarithm.
    """

    values: list[float]
    shares: list[float]
    decay: float
    held_out: int
    trained: int = 0
    shift: float = 0.0
    doubt: float = 0.0

    def __post_init__(self) -> None:
        numbers = [*self.values, *self.shares, self.decay, self.shift, self.doubt]
        if not self.values or len(self.values) != len(self.shares) or not all(map(math.isfinite, numbers)):
            raise ValueError("a reference without numbers")  # NaN: all would be normal
        if min(self.held_out, self.trained) < 0:
            raise ValueError("a reference that rests on fewer than no photos")
        rising = all(a < b for a, b in zip(self.values, self.values[1:], strict=False))
        falling = all(a > b > 0 for a, b in zip(self.shares, self.shares[1:], strict=False))
        if not (rising and falling and 0 < self.shares[0] < 1 and self.values[0] > 0 and self.decay > 0):
            raise ValueError("a reference whose knots are in disorder")

    @cached_property
    def _knots(self) -> tuple[Numbers, Numbers]:
        """Logarithms of the values, and of how many good parts there are to one above."""
        return np.log(self.values), -np.log(self.shares)

    def rarity(self, numbers: Numbers) -> Numbers:
        """log10 N, where about 1 of N new good parts has this number or a higher one.

        >>> Reference([1.0, 2.0], [0.5, 0.1], 0.5, 9).rarity(np.array([0.0, 1.0, 2.0, 4.0])).round(3)
        array([0.   , 0.301, 1.   , 1.602])
        """
        values, levels = self._knots
        at = np.log(np.maximum(numbers, LEAST))
        inside = np.interp(at, values, levels)
        # So that an order is left there, too.
        below = levels[0] * np.minimum(np.maximum(numbers, 0) / self.values[0], 1)
        beyond = levels[-1] + (at - values[-1]) / self.decay
        rare = np.where(at < values[0], below, np.where(at > values[-1], beyond, inside))
        return rare / math.log(10)

    def threshold(self, share: float) -> float:
        """The number that this share of new good parts is expected above.

        >>> Reference([1.0, 2.0], [0.5, 0.1], 0.5, 9).threshold(0.1)
        2.00002
        """
        (values, levels), level = self._knots, -math.log(share)
        if level < levels[0]:
            number = self.values[0] * level / levels[0]
        elif level > levels[-1]:
            number = math.exp(min(values[-1] + self.decay * (level - levels[-1]), 2 * LARGEST))
        else:
            number = math.exp(np.interp(level, levels, values))
        return float(number * (1 + ROUNDING))

    def sample(self) -> list[float]:
        """The numbers of held-out images, at most 512, which new ones are spread as; those of the training are not.

        >>> Reference([1.0, 2.0, 4.0], [0.75, 0.5, 0.25], 0.5, 3, 90).sample()
        [1.0, 2.0, 4.0]
        """
        count = min(self.held_out, MOST_KNOTS)
        return [self.threshold(1 - (k + 1) / (count + 1)) / (1 + ROUNDING) for k in range(count)]

    def suffices(self, share: float) -> bool:
        """Whether held-out images alone can promise it."""
        return (self.held_out + 1) * share >= 1 - 1e-9

    def range(self, share: float) -> tuple[float, float]:
        """In which, nine times of ten, the true share of good parts above `threshold(share)` lies."""
        from scipy.stats import beta  # takes most of a second, and a server needs it not

        alone = self.suffices(share)
        images = self.held_out if alone else self.held_out + self.trained
        least, most = beta.ppf((0.05, 0.95), (images + 1) * share, (images + 1) * (1 - share))
        if not alone and self.doubt:
            at = self.threshold(share) * np.exp(1.645 * self.doubt * np.array([1, -1]))
            lower, higher = 10 ** -self.rarity(at)
            least, most = min(least, lower), max(most, higher)
        return float(least), float(min(most, 1))

    @classmethod
    def from_plain(cls, stored: Any) -> "Reference":
        """What `dataclasses.asdict` made of it. Raises SIVTError where that is damaged."""
        try:
            return cls(**stored)
        except (TypeError, ValueError) as error:
            raise SIVTError(f"The model's calibration is damaged ({error}): calibrate it again.") from error
