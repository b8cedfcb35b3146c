"""torchmetrics' inside, all that is used of it, as in 1.9: when a metric's state is looked at, and its two forms.

It has no public hook for that, nor for figures that are out of date.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torchmetrics import Metric


class SettledMetric(Metric):
    """A metric that puts its state in order whenever the state is looked at, by `settle`.

    The state are `fields`: of each a list of tensors, after a synchronisation a tensor.
    """

    full_state_update = False
    fields: tuple[str, ...]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for field in self.fields:
            self.add_state(field, default=[], dist_reduce_fx="cat")

    def settle(self) -> None:
        """Bring the state up to date."""
        raise NotImplementedError

    @property
    def parts(self) -> list[tuple[Tensor, ...]]:
        """The state as it is, a tensor of each field at a time."""
        states = [getattr(self, field) for field in self.fields]
        return list(zip(*([state] if isinstance(state, Tensor) else state for state in states), strict=True))

    def put(self, parts: Iterable[Iterable[Tensor]]) -> None:
        """These in place of the state's; what a synchronisation has joined stays as it is."""
        columns = list(zip(*parts, strict=True)) or [()] * len(self.fields)
        for field, tensors in zip(self.fields, columns, strict=True):
            if isinstance(state := getattr(self, field), list):
                state[:] = [tensor.to(self.device) for tensor in tensors]

    def reset(self) -> None:
        """Forget all."""
        for field in self.fields:  # torchmetrics expects the lists that a synchronisation has replaced
            setattr(self, field, [])
        super().reset()

    @property
    def metric_state(self) -> dict[str, Any]:
        """What another metric of the kind can be merged with, as torchmetrics has it."""
        self.settle()
        return super().metric_state

    def merge_state(self, incoming_state: Any) -> None:
        """Take in another metric of the kind, or its state."""
        super().merge_state(incoming_state)
        self._computed = None  # torchmetrics would go on answering with the figures of before

    def _copy_state_dict(self) -> dict[str, Any]:  # before a synchronisation and in `forward`
        self.settle()
        return super()._copy_state_dict()
