"""Image AUROC by kind of defect."""

from pathlib import Path

import pytest

from sivt_lightning.data.samples import Sample
from sivt_lightning.evaluation.by_defect import figures_by_defect
from sivt_lightning.report.tables import Results, defect_rows, kinds_of

KINDS = ["good", "good", "logical", "logical", "structural"]


def samples(category: str, kinds: list[str]) -> list[Sample]:
    return [Sample(Path(str(i)), category, kind != "good", kind) for i, kind in enumerate(kinds)]


def test_each_kind_is_held_against_all_good_ones() -> None:
    found = figures_by_defect(samples("box", KINDS), dict(enumerate([0.1, 0.4, 0.2, 0.5, 0.9])))
    assert found == {
        "box": {
            "logical": {"images": 2, "image_auroc": pytest.approx(0.75)},
            "structural": {"images": 1, "image_auroc": pytest.approx(1.0)},
        }
    }


def test_without_good_ones_there_is_no_figure() -> None:
    assert figures_by_defect(samples("box", ["hole"]), {0: 0.5}) == {
        "box": {"hole": {"images": 1, "image_auroc": None}}
    }


def results(defects: dict) -> Results:
    none: dict = {"categories": {}, "mean": {}, "pooled": {}}
    return {**none, "operating_points": none, "error_bounds": none, "notes": {}, "settings": {}, "defects": defects}  # type: ignore[typeddict-item]


def test_kinds_that_all_categories_share_are_a_table() -> None:
    one = {kind: {"images": 2, "image_auroc": value} for kind, value in (("logical", 0.5), ("structural", 1.0))}
    other = {kind: {"images": 2, "image_auroc": value} for kind, value in (("logical", 0.7), ("structural", None))}
    both = results({"bag": one, "box": other})
    assert kinds_of(both) == ["logical", "structural"]
    assert defect_rows(both, "-") == [
        ["bag", "0.5000", "1.0000"],
        ["box", "0.7000", "-"],
        ["mean", "0.6000", "1.0000"],
    ]


@pytest.mark.parametrize(
    "defects",
    [
        {},
        {"nut": {"bent": {"images": 1, "image_auroc": 1.0}}},
        {"nut": {kind: {"images": 1, "image_auroc": 1.0} for kind in "ab"}, "screw": {}},
        {"pill": {kind: {"images": 1, "image_auroc": 1.0} for kind in "abcde"}},
    ],
)
def test_others_stand_in_the_file_alone(defects: dict) -> None:
    assert kinds_of(results(defects)) == []
