"""A CSV log that a continued training goes on writing."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment


class AppendingCSVLogger(CSVLogger):
    """Lightning's CSVLogger deletes the metrics.csv that it finds in its directory; this one appends to it."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of this run's log."""
        if self._experiment is not None:
            return self._experiment
        log = Path(self.log_dir, "metrics.csv")
        if not log.is_file():
            return super().experiment
        aside = log.with_name("metrics.csv.before")
        log.rename(aside)  # out of reach of the writer that is made here
        writer = super().experiment
        aside.rename(log)
        with log.open(newline="") as file:
            writer.metrics_keys = next(csv.reader(file), [])
        return writer
