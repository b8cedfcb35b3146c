"""Which validation value, loss or synthetic AUROC, tells good checkpoints from bad ones?

    python benchmarks/selection.py FOLDER --config configs/demo.yaml --data.root runs/demo_data

Trains as `sivt fit` does with the arguments after FOLDER, keeps the weights of every epoch, tests each of them, and
prints Spearman's rank correlation of either value with the true figures over the epochs, and the figures of the
checkpoint that it would choose. This looks at test images: it is for choosing a default, on data kept for that, and
never for choosing a model.
"""

import csv
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from scipy.stats import spearmanr

from sivt_lightning.cli import main

FIGURES = ("image_auroc", "pixel_auroc", "pixel_ap")
SIGNS = {"val/loss": -1, "val/synthetic_auroc": 1}


class EveryEpoch(Callback):
    """Keeps the weights of every epoch."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The thresholds are set by now."""
        if trainer.state.fn == "fit":
            trainer.save_checkpoint(Path("every") / f"{trainer.current_epoch}.ckpt", weights_only=True)


def select(folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Trains, tests every epoch and compares; what is there already is not done again."""
    arguments = [str(Path(argument).resolve()) if Path(argument).exists() else argument for argument in arguments]
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    if not Path("trained").exists():
        shutil.rmtree("runs", ignore_errors=True)
        keep = ["--trainer.callbacks+=selection.EveryEpoch", "--name", "run"]
        assert main(["fit", *arguments, *keep]) == 0
        Path("trained").touch()
    with Path("runs/run/version_0/metrics.csv").open(newline="") as file:
        values = {int(row["epoch"]): row for row in csv.DictReader(file) if row["val/loss"]}
    epochs = []
    for epoch, row in sorted(values.items()):
        output = Path("tests", str(epoch))
        if not (output / "metrics.json").is_file():
            command = ["test", "--ckpt_path", f"every/{epoch}.ckpt", "--output", str(output), "--eval.curves", "false"]
            assert main(command) == 0
        mean = json.loads((output / "metrics.json").read_text())["mean"]
        epochs.append({value: float(row[value]) for value in SIGNS} | {figure: mean[figure] for figure in FIGURES})
    report: dict[str, Any] = {"epochs": epochs, "best epoch": {f: max(e[f] for e in epochs) for f in FIGURES}}
    for value, sign in SIGNS.items():
        ranked = [sign * epoch[value] for epoch in epochs]
        chosen = max(range(len(epochs)), key=ranked.__getitem__)
        report[value] = {
            "rank correlation": {f: rank_correlation(ranked, [e[f] for e in epochs]) for f in FIGURES},
            "chooses epoch": chosen,
            "with": {figure: epochs[chosen][figure] for figure in FIGURES},
        }
    return report


def rank_correlation(values: list[float], figures: list[float]) -> float | None:
    """Spearman's; None where either is the same in all epochs."""
    constant = len(set(values)) == 1 or len(set(figures)) == 1
    return None if constant else float(spearmanr(values, figures).statistic)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    selection = select(Path(sys.argv[1]), sys.argv[2:])
    Path("selection.json").write_text(json.dumps(selection, indent=2, allow_nan=False) + "\n")
    print(json.dumps({key: value for key, value in selection.items() if key != "epochs"}, indent=2))
