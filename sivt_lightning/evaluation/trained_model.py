"""A trained model in the Trainer's loops of `test` and `predict`."""

from pathlib import Path

from lightning import LightningModule

from sivt_lightning.data.dataset import Batch
from sivt_lightning.inference.about import About
from sivt_lightning.inference.models import Model, open_model
from sivt_lightning.inference.photos import look
from sivt_lightning.model.detection import Detection


class TrainedModel(LightningModule):
    """A checkpoint or an export, opened and run as `Predictor` and the server do, on the device of this process.

    Args:
        path: of the model's file.
        precision: of a checkpoint, instead of that of its training.
    """

    model: Model  # from `setup` on

    def __init__(self, path: str, precision: str | None = None) -> None:
        super().__init__()
        self.path, self.asked_precision = Path(path), precision

    def setup(self, stage: str) -> None:
        """Each process knows its device by now."""
        self.model = open_model(self.path, str(self.trainer.strategy.root_device), self.asked_precision)

    @property
    def about(self) -> About:
        """What its file says of it."""
        return self.model.about

    @property
    def precision(self) -> str:
        """In which it computes."""
        return self.model.precision

    def identity(self) -> str:
        """Hexadecimal digits that no other model has."""
        return self.model.identity()

    # Lightning would have evaluation steps return mappings, but hands whatever they return to the callbacks.
    def test_step(self, batch: Batch, batch_idx: int) -> Detection:  # type: ignore[override]
        return look(self.model, batch.images, batch.grids)

    def predict_step(self, batch: Batch, batch_idx: int) -> Detection:
        return look(self.model, batch.images, batch.grids)
