"""The records in docs/results.jsonl: read and checked, joined over seeds, added to.

A record is one line, an object of one training or measurement:

    {"table": "means", "row": "small", "command": "sivt fit --config small ...", "seed": 1, "commit": "1ecc997",
     "machine": "AMD EPYC, one core", "date": "2026-11-26", "figures": {"image AUROC": 0.900912, "pixel AP": 0.390211}}

Each seed has a record of its own; those of one table and row are joined here, to mean ± sample deviation. Records from
before there were such files have several seeds already joined: "seeds" in place of "seed", and [mean, deviation] for a
figure. What is not known is null; a figure is null where it is undefined. A figure is shown with as many digits as it
is recorded with, four after the point at most. Tables and rows come in the order of the file.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "docs" / "results.jsonl"
ORIGIN = ("command", "commit", "machine", "date")
FIELDS = {"table", "row", "figures", *ORIGIN}
DIGITS = 4  # after the point

Record = dict[str, Any]
Rows = dict[str, dict[str, dict[str, str]]]  # table -> row -> figure -> "value" or "value ± deviation"


def read_records(file: Path = FILE) -> list[Record]:
    """Figures as decimal numbers of the digits they are written with.

    Raises ValueError where a line is no record.
    """
    records = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line, parse_float=Decimal)
            check(record)
        except ValueError as error:
            raise ValueError(f"{file.name}, line {number}: {error}") from error
        records.append(record)
    return records


def check(record: Record) -> None:
    """Raises ValueError where it is no record."""
    seeds = record.keys() & {"seed", "seeds"}
    if len(seeds) != 1 or record.keys() - seeds != FIELDS:
        named = f"{', '.join(sorted(FIELDS))} and either seed or seeds"
        raise ValueError(f"a record has {named}, this one {', '.join(sorted(record))}. What is not known is null.")
    place = f"{record['table']} | {record['row']}"
    seed = record.get("seed")
    if not all(isinstance(record[name], str) for name in ("table", "row")):
        raise ValueError(f"{place}: table and row are texts.")
    if wrong := [name for name in ORIGIN if record[name] is not None and not str(record[name]).strip()]:
        raise ValueError(f"{place}: {wrong[0]} is empty. What is not known is null.")
    if record["date"] is not None:
        date.fromisoformat(record["date"])
    if type(seed) not in (int, type(None)) or ("seeds" in record and len(set(record["seeds"])) < 2):
        raise ValueError(f"{place}: a seed is a whole number or null, seeds are several.")
    if not record["figures"]:
        raise ValueError(f"{place}: there is no figure.")
    for name, figure in record["figures"].items():
        parts = figure if isinstance(figure, list) and "seeds" in record and len(figure) == 2 else [figure]
        if not all(type(part) in (int, Decimal) for part in parts) and figure is not None:
            raise ValueError(f"{place} | {name}: {figure} is no number, of several seeds no [mean, deviation].")


def joined(records: Iterable[Record]) -> Rows:
    """What each figure is, over all seeds; without those that are undefined.

    Raises ValueError where a figure is recorded twice for a seed, or not for all seeds of a row.
    """
    rows: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        rows.setdefault((record["table"], record["row"]), []).append(record)
    tables: Rows = {}
    for (table, row), trainings in rows.items():
        _check_seeds(f"{table} | {row}", trainings)
        figures = dict.fromkeys(name for training in trainings for name in training["figures"])
        parts = {name: [t["figures"][name] for t in trainings if name in t["figures"]] for name in figures}
        told = {name: shown(values) for name, values in parts.items() if None not in values}
        tables.setdefault(table, {})[row] = told
    return tables


def _check_seeds(place: str, trainings: Sequence[Record]) -> None:
    for one, other in combinations(trainings, 2):
        common = one["figures"].keys() & other["figures"].keys()
        seeds = [training.get("seed") for training in (one, other)]
        if common and (None in seeds or seeds[0] == seeds[1]):
            raise ValueError(f"{place} | {sorted(common)[0]} is recorded twice. Delete one of the lines.")
        if common and one["figures"].keys() != other["figures"].keys():
            alone = sorted(one["figures"].keys() ^ other["figures"].keys())[0]
            raise ValueError(f"{place} | {alone} is recorded for one of the seeds {seeds[0]} and {seeds[1]} only.")


def shown(values: Sequence[Any]) -> str:
    """One figure of a record, or those of several.

    >>> shown([Decimal("0.50")]), shown([[Decimal("0.5012345"), Decimal("0.1000000")]]), shown([815])
    ('0.50', '0.5012 ± 0.1000', '815')
    >>> shown([Decimal("0.250000"), Decimal("0.750000")])
    '0.5000 ± 0.3536'
    """
    whole = values[0] if isinstance(values[0], list) else values
    digits = min(DIGITS, *(-Decimal(part).as_tuple().exponent for part in whole))  # type: ignore[operator]
    if len(values) > 1:
        numbers = [float(value) for value in values]
        whole = [statistics.fmean(numbers), statistics.stdev(numbers)]
    return " ± ".join(f"{part:.{digits}f}" for part in whole)


def line_of(record: Record) -> str:
    r"""As it stands in the file, with all its digits.

    >>> print(line_of({"table": "a", "seed": 0, "figures": {"image AP": Decimal("1.0000"), "pixel AP": None}}))
    {"table": "a", "seed": 0, "figures": {"image AP": 1.0000, "pixel AP": null}}
    """

    def number(value: Any) -> str:
        if isinstance(value, list):
            return f"[{', '.join(map(number, value))}]"
        return "null" if value is None else str(value)

    rest = {name: value for name, value in record.items() if name != "figures"}
    figures = ", ".join(f"{json.dumps(name)}: {number(value)}" for name, value in record["figures"].items())
    return f'{json.dumps(rest, ensure_ascii=False)[:-1]}, "figures": {{{figures}}}}}'


def add(new: Sequence[Record], file: Path = FILE) -> None:
    """At the end of the file, all or none.

    Raises ValueError where one is no record, or recorded already.
    """
    for record in new:
        check(record)
    joined([*read_records(file), *new])
    with file.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{line_of(record)}\n" for record in new)
