"""Writes a list of the solar cells that the package elpv-dataset holds, for `sivt fit` and `sivt test`.

    pip install --no-deps elpv-dataset
    python docs/solar_cells.py cells.csv

The photos (Deitsch et al., 2021; CC BY-NC-SA 4.0) stay where pip has put them. Cells that all experts called good are
good ones, every fifth of each kind for the test. Cells that all called defective are defects for the test; those that
they were not sure of are left out.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

from sivt_lightning.files import csv_text, write_whole

GOOD, DEFECTIVE = 0.0, 1.0  # probability of a defect
TESTED = 5  # one of so many


def rows_of(folder: Path) -> list[list[str]]:
    """(path, category, split, label) of each cell."""
    lines = [line.split() for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines()]
    rows = []
    for kind in sorted({kind for _, _, kind in lines}):
        good, defective = (
            [str(folder / path) for path, probability, of in lines if of == kind and float(probability) == wanted]
            for wanted in (GOOD, DEFECTIVE)
        )
        for number, path in enumerate(good, 1):
            rows.append([path, kind, "train" if number % TESTED else "test", "good"])
        rows += [[path, kind, "test", "defect"] for path in defective]
    return rows


def main() -> None:
    """Write the list."""
    parser = argparse.ArgumentParser()
    parser.add_argument("list", type=Path)
    parser.add_argument("--folder", type=Path, help="that of labels.csv; default: the package's")
    given = parser.parse_args()
    package = find_spec("elpv_dataset")
    if given.folder is None and (package is None or package.origin is None):
        parser.error("the package elpv-dataset is not installed: pip install --no-deps elpv-dataset")
    folder = given.folder or Path(str(package and package.origin)).parent / "data"
    rows = rows_of(folder.resolve())
    write_whole(given.list, csv_text([["path", "category", "split", "label"], *rows]))
    print(f"{given.list}: {len(rows)} cells")


if __name__ == "__main__":
    main()
