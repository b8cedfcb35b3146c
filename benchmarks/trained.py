"""What the benchmarks take from a checkpoint of `sivt fit`."""

from typing import Any, NamedTuple

from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.inference.checkpoint import read_checkpoint
from sivt_lightning.model.detector import Detector
from sivt_lightning.training.module import SIVT


class Trained(NamedTuple):
    """A detector, the data that it was trained on (ready to train and test), and the model's settings."""

    detector: Detector
    data: SIVTDataModule
    settings: dict[str, Any]


def load(path: str) -> Trained:
    """Raises SIVTError where the file is no checkpoint of `sivt fit`."""
    checkpoint = read_checkpoint(path)
    settings = dict(checkpoint["hyper_parameters"]) | {"weights": "random", "init_from": None}
    model = SIVT(**settings)
    model.load_state_dict(checkpoint["state_dict"])
    data = SIVTDataModule(**{**checkpoint["datamodule_hyper_parameters"], "cache": "off"})
    data.setup("fit")
    data.setup("test")
    return Trained(model.detector.eval(), data, settings)
