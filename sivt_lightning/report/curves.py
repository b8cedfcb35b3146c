"""The curves behind the figures, and how the scores of normal and anomalous images lie, as PNG pictures."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sivt_lightning.report.tables import row_name

BLUE, ORANGE, INK = "#0072b2", "#d55e00", "#141414"  # Okabe and Ito's, told apart under every colour blindness
STYLES = ("-", "--", ":", "-.")


def write_curves(
    folder: Path, curves: Mapping[str, Sequence[tuple[str, Any]]], figures: Mapping[str, Any], limit: float
) -> list[Path]:
    """`roc.png`, `pr.png` (images and pixels side by side) and `pro.png` (pixels).

    Args:
        curves: "image" and "pixel" -> (name, Curve) of each category where it is defined, the pooled one last.
        figures: the results that `metrics.json` holds, for the legends.
        limit: false-positive rate up to which AUPRO is taken.
    """
    kinds = [kind for kind in ("image", "pixel") if curves[kind]]
    pictures = {
        "roc": [(kind, "auroc", "false-positive rate", "recall (true-positive rate)") for kind in kinds],
        "pr": [(kind, "ap", "recall", "precision") for kind in kinds],
        "pro": [("pixel", "aupro", "false-positive rate", "mean overlap with each region")] * ("pixel" in kinds),
    }
    written = []
    for name in pictures:  # of an earlier test, which may have had a curve that this one has not
        (folder / f"{name}.png").unlink(missing_ok=True)
    for name, panels in pictures.items():
        if panels:
            picture, axes = _figure(1, len(panels), 5.6, 5.2)
            for axis, (kind, figure, x_label, y_label) in zip(axes, panels, strict=True):
                _draw(axis, curves[kind], figures, f"{kind}_{figure}")
                axis.set(title=f"{kind}s", xlabel=x_label, ylabel=y_label, ylim=(-0.02, 1.02))
                axis.set_xlim((0, limit) if figure == "aupro" else (-0.02, 1.02))
                axis.legend(fontsize=7, loc="lower right" if figure != "ap" else "lower left")
            written.append(_save(picture, folder / f"{name}.png"))
    return written


def write_histograms(folder: Path, scores: Mapping[str, Any], thresholds: Mapping[str, float | None]) -> Path:
    """`scores.png`: for each category how often a score occurs among normal and anomalous images.

    Args:
        scores: category -> Intervals of its image scores.
        thresholds: category -> the threshold of the verdicts, a dashed line.
    """
    columns = min(3, len(scores))
    rows = -(-len(scores) // columns)
    picture, axes = _figure(rows, columns, 4.4, 3.0)
    for axis in axes[len(scores) :]:
        axis.set_visible(False)
    for axis, (name, account) in zip(axes, scores.items(), strict=False):
        threshold = thresholds[name]
        ends = [*account.low, *([] if threshold is None else [threshold])]
        bins = np.linspace(min(ends, default=0), max(ends, default=1) or 1, 31)
        for field, colour, hatch in (("negatives", BLUE, None), ("positives", ORANGE, "///")):
            label = {"negatives": "normal", "positives": "anomalous"}[field]
            weights = getattr(account, field)
            axis.hist(account.low, bins, weights=weights, color=colour, alpha=0.6, hatch=hatch, label=label)
        if threshold is not None:
            axis.axvline(threshold, color=INK, linestyle="--", label=f"threshold {threshold:.3g}")
        axis.set(title=_text(name), xlabel="anomaly score", ylabel="images")
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.legend(fontsize=7)
    return _save(picture, folder / "scores.png")


def _draw(axis: Any, curves: Sequence[tuple[str, Any]], figures: Mapping[str, Any], figure: str) -> None:
    from matplotlib import colormaps

    colours = colormaps["viridis"](np.linspace(0, 0.9, max(len(curves) - 1, 1)))
    for i, (name, curve) in enumerate(curves):
        pooled = i == len(curves) - 1
        value = (figures["pooled"] if pooled else figures["categories"][name])[figure]
        x, y = {
            "auroc": (curve.fpr, curve.recall),
            "ap": (curve.recall, curve.precision),
            "aupro": (curve.fpr, curve.overlap),
        }[figure.split("_")[1]]
        if not figure.endswith("ap"):  # no threshold is high enough for the point where nothing is found
            x, y = np.append(0, x), np.append(0, y)
        look = {"color": INK, "linewidth": 2} if pooled else {"color": colours[i], "linestyle": STYLES[i % len(STYLES)]}
        axis.plot(x, y, label=f"{_text(name if pooled else row_name(name))}  {value:.4f}", **look)


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure  # not pyplot, which keeps figures and looks for a screen

    picture = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=110)
    return picture, list(np.ravel(picture.subplots(rows, columns, squeeze=False)))


def _save(picture: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as a box; the legend has the figures
        picture.savefig(path, metadata={"Software": None})
    return path


def _text(name: str) -> str:
    """A category's name, in which a dollar is no formula and a leading underscore hides no line from the legend."""
    text = "".join(c if c.isprintable() else "?" for c in name[:40]).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
