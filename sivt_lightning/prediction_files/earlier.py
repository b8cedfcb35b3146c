"""What an earlier prediction left in a folder: to go on with, or to be replaced."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sivt_lightning.data.folders import RESULTS
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import read_csv, write_whole

TABLE, SETTINGS, REPORT, DRIFT = "predictions.csv", RESULTS, "report.html", "drift.json"
PICTURES = ("mask", "overlay", "map", "photo", "heat")  # columns that name files
Row = dict[str, str]


class Earlier:
    """The rows that earlier runs wrote into a folder, finished or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables = sorted(folder.glob(f"{TABLE}*")) if folder.is_dir() else []
        self.rows = {row["path"]: row for table in self.tables for row in _rows_of(table)}

    def __bool__(self) -> bool:
        return bool(self.tables) or (self.folder / SETTINGS).exists()

    def done(self, path: str, files: Mapping[str, str]) -> Row | None:
        """The row of an image whose result is there, with all its files."""
        row = self.rows.get(path)
        if row is None or row["error"] or any(row.get(column) != file for column, file in files.items()):
            return None
        return row if all((self.folder / file).is_file() for file in files.values()) else None

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raises SIVTError where the earlier run was made with other settings."""
        file = self.folder / SETTINGS
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
            differing = [key for key, value in settings.items() if before[key] != value]
        except (OSError, ValueError, KeyError, TypeError):
            differing = ["kind of run (there is no telling which)"]
        if differing:
            raise SIVTError(
                f"{self.folder} holds predictions of another {differing[0]}, which these would not go with: "
                "name another folder with --output, or replace them with --overwrite."
            )

    def remove_tables(self, keep: Collection[Path]) -> None:
        """Delete its tables, so that no later run takes their rows for its own."""
        for table in self.tables:
            if table not in keep:
                table.unlink(missing_ok=True)

    def remove_files(self, keep: Collection[str]) -> None:
        """Delete the files that it wrote, apart from those to keep; nothing else that lies in the folder."""
        inside = self.folder.resolve()
        named = {row[column] for row in self.rows.values() for column in PICTURES if row.get(column)}
        named |= {REPORT, DRIFT} if self else set()
        for path in named.difference(keep):
            file = (inside / path).resolve()
            if file.is_relative_to(inside) and file != inside:  # whatever the table says
                file.unlink(missing_ok=True)


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """For a run that would go on with this one."""
    write_whole(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")


def _rows_of(table: Path) -> list[Row]:
    """All whole rows: the last one of a run that was killed may be cut off."""
    try:
        rows = read_csv(table)
    except OSError as error:
        raise SIVTError(f"{table} cannot be read ({error}). Name another folder with --output.") from error
    return [row for row in rows if {"path", "error"} <= row.keys()]
