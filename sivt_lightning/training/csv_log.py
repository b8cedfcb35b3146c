"""A CSV log that a continued training goes on writing.

What is used of Lightning's inside stands here, as in Lightning 2.6: the writer of its CSVLogger.
"""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from sivt_lightning.files import csv_text, read_csv, write_whole


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
        rows = read_csv(log)
        self.metrics_keys = list(rows[0]) if rows else []
        self._write([row for row in rows if first_step is None or int(row["step"]) < first_step])

    def _check_log_dir_exists(self) -> None:
        """Lightning's deletes the log."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self._write(read_csv(Path(self.metrics_file_path)))

    def _write(self, rows: list[dict[str, str]]) -> None:
        cells = [[row.get(key, "") for key in self.metrics_keys] for row in rows]
        write_whole(Path(self.metrics_file_path), csv_text([self.metrics_keys, *cells]))
