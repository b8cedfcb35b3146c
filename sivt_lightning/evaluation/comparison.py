"""The figures of several tests side by side."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sivt_lightning.errors import SIVTError
from sivt_lightning.model.settings import names_of, not_said
from sivt_lightning.report.tables import HEADINGS, SUMMARIES, row_name

GROUPS = ("categories", *SUMMARIES)
RAW = "pooled_raw"  # of raw scores; a test without it has them under "pooled", for want of calibrated ones
MIXED = {"calibrated": "pooled, calibrated scores", "raw": "pooled, raw scores"}  # rows where there are both kinds
IMAGE = tuple(name for name in HEADINGS if name.startswith("image"))
# Settings in which tests may differ and still be of one experiment: the seeds, what changes no figure, and the outcome.
# So may the places of data and weights, see `_experiment`.
FREE = {*names_of("seed"), "num_workers", "eval_batch_size", "cache_dir", "predict_path", "epoch"}


class Tested(NamedTuple):
    """One `metrics.json`."""

    name: str
    results: dict[str, Any]


class Column(NamedTuple):
    """Tests of one experiment with different seeds, or a single test."""

    name: str
    tests: list[Tested]

    def values(self, group: str, category: str, figure: str) -> list[float]:
        """Of the tests in which the figure is defined."""
        shown = [_figures(results, group, category).get(figure) for _, results in self.tests]
        return [number for number in shown if number is not None]


def _figures(results: Mapping[str, Any], group: str, category: str) -> Mapping[str, float | None]:
    if group == "categories":
        return results[group].get(category, {})
    if group == "raw":
        return results.get(RAW, results["pooled"])
    if group == "calibrated":
        return results["pooled"] if RAW in results else {}
    return results[group]


def read_tests(paths: Sequence[str]) -> list[Tested]:
    """The `metrics.json` that each path is or holds, named by what tells the paths apart.

    Raises SIVTError where there is none, or it is no table of figures.
    """
    files = [_find(Path(path)) for path in paths]
    files = list({file.resolve(): file for file in files}.values())  # given twice it is still one
    folders = [[part for part in file.resolve().parent.parts if part != "test"] for file in files]
    shared = 0
    while len(folders) > 1 and all(len(f) > shared + 1 for f in folders) and len({f[shared] for f in folders}) == 1:
        shared += 1
    if len(folders) == 1:
        shared = max(0, len(folders[0]) - 2)
    names = ["/".join(folder[shared:]) for folder in folders]
    twice = {name for name in names if names.count(name) > 1}
    named = [f"{name}/{file.stem}" if name in twice else name for name, file in zip(names, files, strict=True)]
    return [Tested(name, _read(file)) for name, file in zip(named, files, strict=True)]


def _find(path: Path) -> Path:
    for file in (path, path / "metrics.json", path / "test" / "metrics.json"):
        if file.is_file():
            return file
    raise SIVTError(f"{path}: no metrics.json there. Name the file or folder that `sivt test` wrote.")


def _read(file: Path) -> dict[str, Any]:
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        categories, mean, pooled = (results[group] for group in GROUPS)
        for figures in (*categories.values(), mean, pooled, results.get(RAW, {})):
            if not all(value is None or math.isfinite(value) for value in figures.values()):
                raise ValueError("a figure is no finite number")
        parts = results.setdefault("settings", {}).values()
        points = results.setdefault("operating_points", {}).setdefault("categories", {}).values()
        if not all(isinstance(part, dict) for part in parts):
            raise TypeError("settings are no mappings")
        _ = [(point["normal_images"], point["anomalous_images"]) for point in points]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SIVTError(f"{file}: not a metrics.json of `sivt test` ({error}). Test the model again.") from error
    return results


def group_seeds(tests: Sequence[Tested]) -> list[Column]:
    """Tests whose settings are equal but for their seeds share a column; without settings, or a seed, none does."""
    groups: dict[str, list[Tested]] = {}
    for number, test in enumerate(tests):
        settings = test.results["settings"]
        groups.setdefault(_experiment(test.results) if settings else str(number), []).append(test)
    columns = []
    for group in groups.values():
        if len({_seed(test) for test in group}) == len(group) > 1:
            columns.append(Column(f"{group[0].name} ({len(group)} seeds)", group))
        else:  # one test, or one seed twice, whose spread would be none of seeds
            columns += [Column(test.name, [test]) for test in group]
    return columns


def _seed(test: Tested) -> Any:
    return test.results["settings"].get("model", {}).get("seed")


def _experiment(results: Mapping[str, Any]) -> str:
    """What the tests of one experiment have in common: data and weights themselves where known, not where they lay."""
    settings: Mapping[str, Mapping[str, Any]] = results["settings"]
    kept = {part: {key: value for key, value in values.items() if key not in FREE} for part, values in settings.items()}
    model, data, training, test = (kept.setdefault(part, {}) for part in ("model", "data", "training", "test"))
    if model:  # tests of earlier versions do not say all that later ones do
        kept["model"] = model = not_said(0) | model
    kept["test"] = {"kind": "checkpoint", "false_alarms": None, "unknown": True} | test
    if test.get("threshold_by") == "pooled":  # once a word for what None is now
        kept["test"]["threshold_by"] = None
    if training.get("images") and test.get("images"):
        data.pop("root", None)
    if model.get("weights") == "random":  # drawn from the seed
        training.pop("backbone", None)
    elif training.get("backbone"):
        model.pop("weights", None)
    return json.dumps([kept, RAW in results], sort_keys=True)


def comparison_rows(columns: Sequence[Column], figures: Sequence[str], categories: bool) -> list[list[str]]:
    """A row for the mean and the pooled value of each figure, and where asked for one for each category."""
    names = list(dict.fromkeys(name for c in columns for test in c.tests for name in test.results["categories"]))
    of_categories = [("categories", name, row_name(name)) for name in names if categories]
    plainly = [(group, "", group) for group in SUMMARIES]
    mixed = [("mean", "", "mean"), *((group, "", row) for group, row in MIXED.items())]
    both_kinds = _both_kinds([test for column in columns for test in column.tests])
    return [
        [f"{HEADINGS[figure]}, {row}", *_cells([column.values(group, category, figure) for column in columns])]
        for figure in figures
        for group, category, row in of_categories + (mixed if both_kinds and figure in IMAGE else plainly)
    ]


def _both_kinds(tests: Sequence[Tested]) -> bool:
    """Whether pooled figures of images are of calibrated scores in some tests, and of raw ones in others."""
    return len({RAW in test.results for test in tests}) > 1


def _cells(values: Sequence[Sequence[float]]) -> list[str]:
    """
    >>> _cells([[0.5], [0.25, 0.75], [], [0.1]])
    ['0.5000 *', '0.5000 ± 0.3536 *', '-', '0.1000']
    """
    texts = [f"{statistics.fmean(column):.4f}" if column else "-" for column in values]
    best = max((text for text in texts if text != "-"), default="")
    marked = sum(bool(column) for column in values) > 1
    cells = []
    for column, text in zip(values, texts, strict=True):
        spread = f" ± {statistics.stdev(column):.4f}" if len(column) > 1 else ""
        cells.append(f"{text}{spread}{' *' if marked and text == best else ''}")
    return cells


def comparison_notes(tests: Sequence[Tested], columns: Sequence[Column]) -> list[str]:
    """What a reader of the table has to know."""
    notes = ["*: the best of the row. ±: sample standard deviation over seeds."]
    for column in columns:
        if len(column.tests) > 1:
            notes.append(f"{column.name}: {', '.join(test.name for test in column.tests)}.")
    if len({tuple(sorted(test.results["categories"])) for test in tests}) > 1:
        notes.append("The tests are of different categories, so their means and pooled figures do not compare.")
    counted = [test.results["operating_points"]["categories"] for test in tests]
    images = {
        json.dumps({name: (p["normal_images"], p["anomalous_images"]) for name, p in sorted(points.items())})
        for points in counted
        if points
    }
    digests = {test.results["settings"].get("test", {}).get("images") for test in tests}
    if len(images) <= 1 and len(digests - {None}) > 1:
        notes.append("The tests are of different images, so they are not of the same data.")
    if len(images) > 1:
        notes.append("The tests are of different numbers of images, so they are not of the same data.")
    if _both_kinds(tests):
        without = [test.name for test in tests if RAW not in test.results]
        notes.append(f"Of {', '.join(without)} there are raw scores only, which do not compare between products.")
    if len({test.results["settings"].get("test", {}).get("full_resolution") for test in tests}) > 1:
        notes.append(
            "Some tests compare maps with masks at full resolution and some do not: their pixel figures differ."
        )
    return notes
