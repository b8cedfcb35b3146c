"""Records of what `sivt test`, `sivt experiment` and benchmarks/nearest_neighbour.py measured, from their files."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from records import ORIGIN, Record

from sivt_lightning.experiment.table import PASSES, SHOWN
from sivt_lightning.files import read_csv

EXPERIMENTS = Path(__file__).parents[1] / "configs" / "experiments"
HEADINGS = SHOWN | {PASSES: PASSES}
DIGITS = {"validation loss": 2, PASSES: 0, "minutes": 1}  # kept of a figure after the point
FRACTION = 6  # of all others


class Told(NamedTuple):
    """What was given beside the files, None where it was not."""

    table: str
    row: str | None = None
    by: str = "category"  # or "mean"
    part: str | None = None
    command: str | None = None  # SEED in it is the record's seed
    commit: str | None = None
    machine: str | None = None
    date: str | None = None
    seed: int | None = None

    def record(self, row: str, seed: int | None, figures: Mapping[str, float | None], **read: str | None) -> Record:
        """Of one training; what was told wins over what was read.

        Raises ValueError where neither says how, when, or on what it was measured.
        """
        origin = {name: getattr(self, name) or read.get(name) for name in ORIGIN}
        if lacking := [name for name, value in origin.items() if not value]:
            raise ValueError(f"{row}: the files do not say its {lacking[0]}. Give --{lacking[0]}.")
        command = str(origin["command"]).replace("SEED", str(seed))
        places = {"table": self.table, "row": row, "command": command, "seed": seed}
        rest = {name: origin[name] for name in ORIGIN if name != "command"}
        return {**places, **rest, "figures": {name: _rounded(name, value) for name, value in figures.items()}}


def measured(places: Sequence[Path], told: Told) -> list[Record]:
    """Of run folders, of their metrics.json, of a table that `sivt experiment` wrote.

    Raises ValueError where one is something else, or says too little.
    """
    return [
        record for place in places for record in (_of_experiment if place.suffix == ".csv" else _of_test)(place, told)
    ]


def _of_test(place: Path, told: Told) -> Iterator[Record]:
    """A record for each category and one for the mean, or the latter alone."""
    tested = [place, place / "metrics.json", place / "test" / "metrics.json"]
    file = next((one for one in tested if one.is_file()), None)
    if file is None:
        raise ValueError(f"{place}: holds no test/metrics.json. Name a run that `sivt test` has tested, or the file.")
    content = json.loads(file.read_text(encoding="utf-8"))
    if told.part is not None and told.part not in content:
        raise ValueError(f"{file}: has no part {told.part!r}, only {', '.join(content)}.")
    whole = content if told.part is None else content[told.part]
    if "mean" not in whole:
        raise ValueError(f"{file}: has no mean. Name one of its parts with --part: {', '.join(whole)}.")
    rows = {**whole.get("categories", whole), "mean": whole["mean"]}
    seed = told.seed if told.seed is not None else content.get("settings", {}).get("model", {}).get("seed")
    day = datetime.fromtimestamp(file.stat().st_mtime, UTC).date().isoformat()
    if told.by == "mean":
        if told.row is None:
            raise ValueError(f"{file}: a mean needs the name of its row. Give --row.")
        rows = {told.row: rows["mean"]}
    elif told.row is not None:
        rows = {f"{name}, {told.row}": figures for name, figures in rows.items()}
    for name, figures in rows.items():
        yield told.record(name, seed, _named(figures), date=day)


def _of_experiment(file: Path, told: Told) -> Iterator[Record]:
    """A record for each row and seed: of individual models the mean over them."""
    if told.row is not None or told.seed is not None:
        raise ValueError(f"{file}: its rows and seeds have names of their own. Leave out --row and --seed.")
    lines = read_csv(file)
    if not lines or not {"row", "seed", "category", *ORIGIN[1:]} <= lines[0].keys():
        raise ValueError(f"{file}: is no table of `sivt experiment`. Name a <name>.csv that it wrote.")
    known = EXPERIMENTS / f"{file.stem}.yaml"
    command = f"sivt experiment configs/experiments/{known.name} --root FOLDER --weights WEIGHTS"
    categories = {line["category"] for line in lines if line["category"]}
    for row, seed in dict.fromkeys((line["row"], line["seed"]) for line in lines):
        trainings = [line for line in lines if (line["row"], line["seed"]) == (row, seed)]
        if failed := [line["error"] for line in trainings if line["error"]]:
            print(f"Left out: {row}, seed {seed}: {failed[0]}")
        elif trainings[0]["category"] and len(trainings) < len(categories):
            print(f"Left out: {row}, seed {seed}: {len(trainings)} of {len(categories)} categories are trained")
        else:
            read = {name: ", ".join(sorted({line[name] for line in trainings})) for name in ORIGIN[1:]}
            read["date"] = max(line["date"] for line in trainings)
            read["command"] = command if known.is_file() else ""
            yield told.record(row, int(seed), _of_trainings(trainings), **read)


def _of_trainings(trainings: Sequence[Mapping[str, str]]) -> dict[str, float | None]:
    seconds = [line["seconds"] for line in trainings]
    minutes = None if "" in seconds else sum(map(float, seconds)) / 60  # of one that went on, a part was timed
    names = [name for name in trainings[0] if name in HEADINGS and any(line[name] for line in trainings)]
    means = {name: statistics.fmean(float(line[name] or "nan") for line in trainings) for name in names}
    return {**_named(means), "minutes": minutes}


def _named(figures: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: figures[key] for key, name in HEADINGS.items() if key in figures}


def _rounded(name: str, value: float | None) -> Decimal | None:
    if value is None or value != value:
        return None
    return Decimal(f"{value:.{DIGITS.get(name, FRACTION)}f}")
