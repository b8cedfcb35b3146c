"""Self-induction vision transformer for anomaly detection over many product categories.

In Python: `Predictor(path_of_a_checkpoint)(image)`, see `inference/predictor.py`. On the command line: `sivt`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sivt_lightning.errors import SIVTError
    from sivt_lightning.inference.prediction import Prediction, Region
    from sivt_lightning.inference.predictor import Predictor

__all__ = ["Prediction", "Predictor", "Region", "SIVTError"]

_HOMES = {
    "Prediction": "inference.prediction",
    "Predictor": "inference.predictor",
    "Region": "inference.prediction",
    "SIVTError": "errors",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for, when it is: torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
