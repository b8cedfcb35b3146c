"""Records are whole, join over seeds, and are made from the files of runs and experiments."""

import doctest
import json
import re
import shlex
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from scripts import script

from sivt_lightning.experiment.plan import Run
from sivt_lightning.experiment.table import Outcome, csv_table

results = script("benchmarks/results.py")
records = script("benchmarks/records.py")
WHOLE = records.read_records()


def test_of_new_records_all_is_known() -> None:
    unknown = [
        record
        for record in WHOLE
        if record["machine"] != "the paper's" and None in (record[name] for name in records.ORIGIN)
    ]
    assert len(unknown) <= 82  # from before there were such records


def record(**changes: Any) -> dict[str, Any]:
    origin = {"command": "sivt fit", "commit": "1ecc997", "machine": "a core", "date": "2026-11-26"}
    return {"table": "t", "row": "r", **origin, "seed": 0, "figures": {"pixel AP": Decimal("0.25")}} | changes


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in record().items() if key != name}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (without("machine"), "a record has command, .* either seed or seeds, this one command"),
        (without("seed"), "either seed or seeds"),
        (record(seeds=[0, 1]), "either seed or seeds"),
        (record(colour="red"), "this one colour"),
        (record(row=1), "table and row are texts"),
        (record(commit=""), "commit is empty"),
        (record(date="26.11.2026"), "26.11.2026"),
        (record(seed="0"), "a whole number or null"),
        (without("seed") | {"seeds": [1]}, "seeds are several"),
        (record(figures={}), "there is no figure"),
        (record(figures={"pixel AP": "0.5"}), r"t \| r \| pixel AP: 0.5 is no number"),
        (record(figures={"pixel AP": [Decimal("0.5"), Decimal("0.1")]}), "is no number"),
    ],
)
def test_what_is_no_record_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    records.check(record())
    with pytest.raises(ValueError, match=sentence):
        records.check(wrong)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({}, "pixel AP is recorded twice"),
        ({"seed": None}, "pixel AP is recorded twice"),
        ({"seed": 1, "figures": {"pixel AP": Decimal(1), "image AP": Decimal(1)}}, "image AP is recorded for one of"),
    ],
)
def test_what_does_not_join_is_refused(other: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        records.joined([record(), record(**other)])


def test_lines_are_read_as_they_are_written_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    assert doctest.testmod(records).attempted
    assert doctest.testmod(records).failed == 0
    file = tmp_path / "results.jsonl"
    file.write_text("".join(f"{records.line_of(one)}\n" for one in WHOLE))
    assert file.read_text() == records.FILE.read_text()
    file.write_text(f"{records.line_of(record())}\n{{}}\n")
    with pytest.raises(ValueError, match=r"results\.jsonl, line 2: a record has"):
        records.read_records(file)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Adds records to a file of their own; the exit code and its lines."""
    file = tmp_path / "results.jsonl"
    file.touch()

    def add(arguments: str) -> tuple[int, list[dict[str, Any]]]:
        monkeypatch.setattr(sys, "argv", ["results.py", "add", *shlex.split(arguments)])
        monkeypatch.setattr(results, "add", lambda new: records.add(new, file))
        monkeypatch.chdir(tmp_path)
        return results.main(), records.read_records(file)

    return add


def write_run(folder: Path, seed: int, **figures: float | None) -> None:
    content = {
        "categories": {"nut": {"image_auroc": figures["nut"], "pixel_ap": None}},
        "mean": {"image_auroc": figures["mean"], "pixel_ap": None},
        "settings": {"model": {"seed": seed}},
    }
    (folder / "test").mkdir(parents=True)
    (folder / "test" / "metrics.json").write_text(json.dumps(content))


TOLD = "--commit 1ecc997 --machine 'a core' --date 2026-11-26 --command 'sivt fit --seed_everything SEED'"


def test_runs_become_records_and_their_seeds_are_joined(tmp_path: Path, added: Any) -> None:
    write_run(tmp_path / "a", 0, nut=0.25, mean=0.5)
    write_run(tmp_path / "b", 1, nut=0.75, mean=1.0)
    code, lines = added(f"--table t {TOLD} a b/test")
    assert code == 0
    assert [line["row"] for line in lines] == ["nut", "mean", "nut", "mean"]
    assert lines[2] == {
        "table": "t",
        "row": "nut",
        "command": "sivt fit --seed_everything 1",
        "seed": 1,
        "commit": "1ecc997",
        "machine": "a core",
        "date": "2026-11-26",
        "figures": {"image AUROC": Decimal("0.750000"), "pixel AP": None},
    }
    assert records.joined(lines)["t"] == {
        "nut": {"image AUROC": "0.5000 ± 0.3536"},
        "mean": {"image AUROC": "0.7500 ± 0.3536"},
    }
    assert added(f"--table means --by mean --row small {TOLD} a/test/metrics.json")[1][-1]["row"] == "small"
    assert added(f"--table t --row small {TOLD} a")[1][-2]["row"] == "nut, small"


def test_the_day_is_that_of_the_file_where_none_is_given(tmp_path: Path, added: Any) -> None:
    write_run(tmp_path / "a", 0, nut=0.25, mean=0.5)
    _, lines = added("--table t --commit c --machine m --command x a")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", lines[0]["date"])


def test_a_part_of_a_file_becomes_records(tmp_path: Path, added: Any) -> None:
    rows = {"nut": {"image_auroc": 0.5}, "mean": {"image_auroc": 0.5}}
    (tmp_path / "neighbours.json").write_text(json.dumps({"our score": rows}))
    code, lines = added(f"--table t --row neighbours --part 'our score' {TOLD} neighbours.json")
    assert code == 0
    assert [(line["row"], line["seed"]) for line in lines] == [("nut, neighbours", None), ("mean, neighbours", None)]


def trained(row: str, seed: int, category: str | None, error: str = "", **changes: Any) -> Outcome:
    """One training of an experiment."""
    origin = {"seconds": 60, "commit": "1ecc997", "date": "2026-11-26", "machine": "a core"}
    figures = {"image_auroc": changes.pop("auroc", None), "val/loss": changes.pop("loss", None)}
    known = {name: value for name, value in figures.items() if value is not None}
    return Outcome(Run(row, seed, category, []), {**origin, "error": error} | changes, known)


def test_the_table_of_an_experiment_becomes_records(
    tmp_path: Path, added: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [
        trained("N = 2", 0, None, auroc=0.25, loss=126.634, seconds=90),
        trained("N = 2", 1, None, auroc=0.75, loss=126.65, seconds=None),  # went on: how long it took is not known
        trained("N = 3", 0, None, "no weights"),
        trained("each", 0, "bolt", auroc=0.5, loss=1.0),
        trained("each", 0, "nut", auroc=1.0, loss=3.0),
        trained("each", 1, "nut", auroc=1.0, loss=3.0),
    ]
    (tmp_path / "groups.csv").write_text(csv_table(outcomes))
    code, lines = added("--table groups groups.csv")
    assert code == 0
    assert lines[0]["figures"] == {
        "image AUROC": Decimal("0.250000"),
        "validation loss": Decimal("126.63"),
        "minutes": Decimal("1.5"),
    }
    assert lines[0]["command"] == "sivt experiment configs/experiments/groups.yaml --root FOLDER --weights WEIGHTS"
    assert (lines[0]["commit"], lines[0]["machine"], lines[0]["date"]) == ("1ecc997", "a core", "2026-11-26")
    assert records.joined(lines)["groups"] == {
        "N = 2": {"image AUROC": "0.5000 ± 0.3536", "validation loss": "126.64 ± 0.01"},
        "each": {"image AUROC": "0.7500", "validation loss": "2.00", "minutes": "2.0"},
    }
    said = capsys.readouterr().out
    assert "Left out: N = 3, seed 0: no weights" in said
    assert "Left out: each, seed 1: 1 of 2 categories" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--table t a", "nut: the files do not say its command. Give --command."),
        ("--table t --command x --commit c a", "the files do not say its machine"),
        (f"--table t --by mean {TOLD} a", "a mean needs the name of its row"),
        (f"--table t {TOLD} b", "b: holds no test/metrics.json"),
        (f"--table t --part ours {TOLD} a", "has no part 'ours', only categories, mean"),
        (f"--table t {TOLD} parts.json", "has no mean. Name one of its parts with --part: ours."),
        (f"--table t {TOLD} a a", "t | nut | image AUROC is recorded twice"),
        (f"--table t {TOLD} mine.csv --row r", "Leave out --row and --seed"),
        ("--table t mine.csv", "N = 2: the files do not say its command"),
        (f"--table t {TOLD} other.csv", "is no table of `sivt experiment`"),
    ],
)
def test_what_cannot_be_added_is_told_and_nothing_is(
    arguments: str, sentence: str, tmp_path: Path, added: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", 0, nut=0.25, mean=0.5)
    (tmp_path / "parts.json").write_text('{"ours": {}}')
    (tmp_path / "other.csv").write_text("row,seed\n")
    (tmp_path / "mine.csv").write_text(csv_table([trained("N = 2", 0, None, auroc=0.25)]))
    assert added(arguments) == (1, [])
    assert sentence in capsys.readouterr().err
