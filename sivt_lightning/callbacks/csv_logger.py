"""A CSV log that a continued training goes on writing."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from sivt_lightning.callbacks.common import csv_text, write_whole


class AppendingCSVLogger(CSVLogger):
    """Lightning's CSVLogger deletes the metrics.csv that it finds in its directory; this one appends to it.

    Args:
        first_step: rows of this step and later go, for the process that wrote them was cut off and they come again.
    """

    def __init__(self, save_dir: Path, name: str, version: str, first_step: int | None = None) -> None:
        super().__init__(save_dir, name, version)
        self.first_step = first_step

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of this run's log."""
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir)
            self._experiment.take_up(self.first_step)
        return self._experiment


class _Writer(ExperimentWriter):
    """Lightning's, except that a kill at any time leaves the rows written before."""

    def take_up(self, first_step: int | None) -> None:
        """Goes on with the rows of steps before `first_step`, all of them by default."""
        log = Path(self.metrics_file_path)
        if not log.is_file():
            return
        text = log.read_text(encoding="utf-8")
        lines = text[: text.rfind("\n") + 1].splitlines()  # a kill may have cut the last one short
        reader = csv.DictReader(lines)
        rows = [row for row in reader if first_step is None or int(row["step"]) < first_step]
        self.metrics_keys = list(reader.fieldnames or [])
        self._write(rows)

    def _check_log_dir_exists(self) -> None:
        """Lightning's deletes the log."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with Path(self.metrics_file_path).open(newline="", encoding="utf-8") as file:
            self._write(list(csv.DictReader(file)))

    def _write(self, rows: list[dict[str, str]]) -> None:
        heading = dict(zip(self.metrics_keys, self.metrics_keys, strict=True))
        write_whole(Path(self.metrics_file_path), csv_text([heading, *rows], self.metrics_keys))
