"""AUROC, AP, F1-max and AUPRO as torchmetrics, of scores that are no probabilities."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sivt_lightning.evaluation.metrics.figures import IMAGE_FIGURES, PIXEL_FIGURES, Bounded, Ranking
from sivt_lightning.evaluation.metrics.intervals import Intervals, concatenate, condense
from sivt_lightning.evaluation.metrics.regions import region_weights
from sivt_lightning.evaluation.metrics.settled import SettledMetric
from sivt_lightning.evaluation.metrics.sketch import RAW, RankSketch


class _RankingMetric(SettledMetric):
    """Collects scores in a sketch, which turns into intervals, the mergeable state, whenever the state is looked at."""

    higher_is_better = True
    fields = Intervals._fields
    exact: bool
    names: tuple[str, ...]  # of the figures

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sketch = RankSketch(self.exact)

    def intervals(self) -> Intervals:
        """All scores so far, of all processes where the metric is synchronised."""
        self.settle()
        account = concatenate(*self._intervals())
        return account if self.exact or len(account.low) <= RAW else condense(account, RAW)

    def figures(self) -> dict[str, Bounded]:
        """Each figure with the bound on its error."""
        return Ranking(self.intervals()).figures(self.names)

    def compute(self) -> dict[str, Tensor]:
        """The figures by name, and under NAME_error the bound on the error of each; NaN where undefined."""
        figures = self.figures()
        values = {name: figure.value for name, figure in figures.items()}
        errors = {f"{name}_error": figure.error for name, figure in figures.items()}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in (values | errors).items()}

    def reset(self) -> None:
        """Forget all scores."""
        super().reset()
        self._sketch = RankSketch(self.exact)

    def settle(self) -> None:
        """What the sketch holds goes to the state."""
        intervals, self._sketch = self._sketch.intervals(), RankSketch(self.exact)
        parts = self._intervals()
        # Empty tensors, where there is nothing yet, have the type that other processes send.
        if len(intervals.low) or not parts:
            parts.append(intervals)
        if not self.exact and sum(len(part.low) for part in parts) > 2 * RAW:
            parts = [condense(concatenate(*parts), RAW)]
        self.put(map(torch.from_numpy, part) for part in parts)

    def _intervals(self) -> list[Intervals]:
        """The state as it is."""
        return [Intervals(*(tensor.cpu().numpy() for tensor in part)) for part in self.parts]

    def _add(self, scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> None:
        if not len(scores):
            return
        low, high = scores.min(), scores.max()
        if not (low >= 0 and high <= np.finfo(np.float32).max):  # so written, NaN fails too
            raise ValueError(f"Scores must be finite and 0 or more, but these run from {low} to {high}.")
        scores = scores + np.float32(0)  # -0.0 becomes 0.0; a copy, for the sketch keeps what it is given
        self._sketch.add(scores[~positive] if positive.any() else scores, scores[positive], weights)


class ImageRanking(_RankingMetric):
    """Exact AUROC, AP and F1-max of image scores, which are taken as float32.

    >>> metric = ImageRanking()
    >>> metric.update(torch.tensor([7.0, 3.0, 2.0]), torch.tensor([True, False, True]))
    >>> round(metric.compute()["auroc"].item(), 6)
    0.5
    """

    exact = True
    names = IMAGE_FIGURES

    def update(self, scores: Float[Tensor, " B"], anomalous: Bool[Tensor, " B"]) -> None:
        """Raises ValueError where a score is negative or no finite number."""
        labels = anomalous.cpu().numpy()
        self._add(scores.detach().float().cpu().numpy(), labels, np.ones(labels.sum()))


class PixelRanking(_RankingMetric):
    """AUROC, AP, F1-max and AUPRO of anomaly maps, in one pass and in memory that does not grow with their number.

    They are exact to the bound that comes with each; up to 2^20 pixels are kept as they are, and the bound is rounding.

    >>> metric = PixelRanking()
    >>> maps = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    >>> metric.update(maps, maps > 1.5)
    >>> round(metric.compute()["aupro"].item(), 6)
    1.0
    """

    exact = False
    names = PIXEL_FIGURES

    def update(
        self,
        maps: Float[Tensor, "B H W"],
        masks: Bool[Tensor, "B H W"],
        inspected: Bool[Tensor, "H W"] | None = None,
    ) -> None:
        """`masks` are True where anomalous. Pixels that are not inspected are neither, and regions are cut to those
        that are; None for all. Raises ValueError where a score is negative or no finite number."""
        labels, scores = masks.cpu().numpy(), maps.detach().float().cpu().numpy()
        if inspected is not None:
            labels = labels & inspected.cpu().numpy()
        weights = np.concatenate([np.empty(0), *(region_weights(mask) for mask in labels if mask.any())])
        if inspected is not None:
            labels, scores = (part[:, inspected.cpu().numpy()] for part in (labels, scores))
        self._add(scores.reshape(-1), labels.reshape(-1), weights)
