"""Options of the commands that hold one model and judge whatever comes: what runs it, and what it calls anomalous."""

from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from sivt_lightning.data.depth import Depth

if TYPE_CHECKING:
    from sivt_lightning.inference.predictor import Predictor


def add_model(parser: ArgumentParser) -> None:
    """Which model."""
    parser.add_argument("--model", type=str, required=True, help="A .ckpt, .xml (OpenVINO), .onnx or .pt2 file.")


def add_verdicts(parser: ArgumentParser) -> None:
    """How it judges."""
    parser.add_argument("--threshold", type=float | None, help="Score above which an image is anomalous.")
    parser.add_argument("--category", type=str | None, help="The product of all images; by default it is recognised.")
    text = "Share of good parts that may be called anomalous, such as 0.01. Default: that of the model's calibration."
    parser.add_argument("--false_alarms", type=float | None, help=text)
    parser.add_argument("--unknown", type=bool, default=True, help="Call an image of none of the products unknown.")
    text = "Pixels of an image; smaller anomalous regions are none, and an image without any is normal."
    parser.add_argument("--smallest_region", type=int, default=0, help=text)
    parser.add_argument("--depth", type=Depth | None, help="Of photos of more than 8 bits. Default: the training's.")
    parser.add_argument("--device", type=str | None, help="Where the model runs, as Predictor has it.")


def ready_predictor(model: str, settings: Any) -> "Predictor":
    """A model that judges as was asked for, after its first call, which takes longer than others.

    Raises SIVTError where it cannot be had or run.
    """
    from sivt_lightning.inference.predictor import Predictor

    predictor = Predictor(
        model,
        settings.device,
        settings.threshold,
        settings.category,
        depth=settings.depth,
        false_alarms=settings.false_alarms,
        unknown=settings.unknown,
        smallest_region=settings.smallest_region,
    )
    predictor.warm_up(model)
    return predictor
