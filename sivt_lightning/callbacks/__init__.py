"""What happens around the model's loops: thresholds, evaluation tables, prediction files."""

from sivt_lightning.callbacks.evaluation import Evaluation
from sivt_lightning.callbacks.prediction import PredictionWriter
from sivt_lightning.callbacks.threshold import ThresholdCalibration

__all__ = ["Evaluation", "PredictionWriter", "ThresholdCalibration"]
