"""AUROC, AP, F1-max and AUPRO as torchmetrics, of scores that are no probabilities."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric

from sivt_lightning.metrics.figures import IMAGE_FIGURES, PIXEL_FIGURES, Bounded, Ranking
from sivt_lightning.metrics.intervals import Intervals, condense
from sivt_lightning.metrics.regions import region_weights
from sivt_lightning.metrics.sketch import RAW, RankSketch


class _RankingMetric(Metric):
    """Collects scores in a sketch, which turns into intervals, the mergeable state, whenever the state is looked at."""

    higher_is_better = True
    full_state_update = False
    exact: bool
    names: tuple[str, ...]  # of the figures
    rows: Any  # a list of tensors, after a synchronisation a tensor: [intervals, fields of Intervals]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self._sketch = RankSketch(self.exact)

    def intervals(self) -> Intervals:
        """All scores so far, of all processes where the metric is synchronised."""
        self._settle()
        rows = [part for part in ([self.rows] if isinstance(self.rows, Tensor) else self.rows) if part.numel()]
        fields = torch.cat([torch.empty(0, 5, dtype=torch.float64), *(part.cpu() for part in rows)]).T
        intervals = Intervals(*fields.contiguous().numpy())
        return intervals if self.exact or len(intervals.low) <= RAW else condense(intervals, RAW)

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
        self.rows = []  # torchmetrics expects the list that a synchronisation has replaced
        super().reset()
        self._sketch = RankSketch(self.exact)

    @property
    def metric_state(self) -> dict[str, Any]:
        """What another metric of the kind can be merged with, as torchmetrics has it."""
        self._settle()
        return super().metric_state

    def _copy_state_dict(self) -> dict[str, Any]:  # before a synchronisation and in `forward`
        self._settle()
        return super()._copy_state_dict()

    def _settle(self) -> None:
        intervals, self._sketch = self._sketch.intervals(), RankSketch(self.exact)
        # An empty tensor, where there is nothing yet, has the type and width that other processes send.
        if len(intervals.low) or self.rows == []:
            self.rows.append(torch.from_numpy(np.stack(intervals, axis=1)).to(self.device))

    def _add(self, scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> None:
        if not len(scores):
            return
        low, high = scores.min(), scores.max()
        if not (low >= 0 and high <= np.finfo(np.float32).max):  # so written, NaN fails too
            raise ValueError(f"Scores must be finite and 0 or more, but these run from {low} to {high}.")
        scores = scores + np.float32(0)  # -0.0 becomes 0.0; a copy, for the sketch keeps what it is given
        self._sketch.add(scores[~positive] if positive.any() else scores, scores[positive], weights)


class ImageRanking(_RankingMetric):
    """Exact AUROC, AP and F1-max of image scores.

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

    def update(self, maps: Float[Tensor, "B H W"], masks: Bool[Tensor, "B H W"]) -> None:
        """`masks` are True where anomalous. Raises ValueError where a score is negative or no finite number."""
        labels = masks.cpu().numpy()
        weights = [region_weights(mask) for mask in labels if mask.any()]
        scores = maps.detach().float().cpu().numpy()
        self._add(scores.reshape(-1), labels.reshape(-1), np.concatenate([np.empty(0), *weights]))
