"""Files of earlier versions go on giving what they gave."""

import json
from pathlib import Path

import numpy as np
import pytest

from sivt_lightning import Predictor

DATA = Path(__file__).parent / "data"


def photo(number: int) -> np.ndarray:
    rows, columns = np.mgrid[:48, :40]
    return np.stack([(columns * (3 + number) + rows * step) % 251 for step in (2, 5, 7)], -1).astype(np.uint8)


def test_a_checkpoint_of_format_0_gives_the_scores_it_gave() -> None:
    recorded = json.loads((DATA / "format_0.json").read_text())
    predictions = Predictor(DATA / "format_0.ckpt", "cpu")([photo(number) for number in range(4)])
    assert [each.score for each in predictions] == pytest.approx(recorded["scores"], rel=1e-4)
    assert [each.anomaly_map.max() for each in predictions] == pytest.approx(recorded["highest"], rel=1e-4)
    assert {each.threshold for each in predictions} == {recorded["threshold"]}
    assert {each.pixel_threshold for each in predictions} == {recorded["pixel_threshold"]}


def test_it_is_small() -> None:
    assert (DATA / "format_0.ckpt").stat().st_size < 300_000
