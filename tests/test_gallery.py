"""The gallery shows what decides: the worst normal image and the anomalous ones around the threshold."""

from pathlib import Path

import numpy as np
import torch
from conftest import write_tiny_data
from PIL import Image

from sivt_lightning.data import layouts
from sivt_lightning.data.dataset import Batch, ImageDataset
from sivt_lightning.data.samples import Sample
from sivt_lightning.evaluation.gallery import choose, write_gallery
from sivt_lightning.report.sheets import FOOT, GAP, HEAD


def test_the_worst_normal_image_and_the_spread_of_the_anomalous_ones() -> None:
    kinds = [("a", False), ("a", True), ("a", False), ("a", True), ("a", True), ("b", True), ("c", False)]
    samples = [Sample(Path(str(i)), category, anomalous) for i, (category, anomalous) in enumerate(kinds)]
    scores = dict(enumerate([0.1, 0.9, 0.5, 0.2, 0.4, 0.3, 0.7]))
    assert [list(chosen.values()) for chosen in choose(samples, scores).values()] == [[2, 3, 4, 1], [5, 5, 5], [6]]


def test_the_sheet(tmp_path: Path) -> None:
    data = ImageDataset(layouts.test_samples(write_tiny_data(tmp_path / "data", train=1), None).samples, 64)
    scores = {i: float(i) for i in range(len(data))}
    batches: list[Batch] = []

    def detect(batch: Batch) -> torch.Tensor:
        batches.append(batch)
        return torch.stack([mask.float() for mask in batch.masks])

    write_gallery(tmp_path / "sheet.png", data, scores, detect, {"across": 1 / 3, "down": 1e6})
    assert [[scores[i] for i in batch.index.tolist()] for batch in batches] == [
        list(found.values()) for found in choose(data.samples, scores).values()
    ]
    sheet = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    pair, tall = 128 + 3 * GAP, HEAD + 64 + FOOT + GAP
    assert sheet.shape == (2 * tall, 4 * pair, 3)
    for row, batch in enumerate(batches):
        for column, mask in enumerate(batch.masks):
            left, top = column * pair + 64 + GAP, row * tall + HEAD
            heat = sheet[top : top + 64, left : left + 64]
            hot = heat[..., 0] - heat[..., 2] > 40  # red without blue: the upper half of the colours
            # Each category has the scale of its own threshold: the same map is hot in one and cold in the other.
            assert (hot == (mask.numpy() if row == 0 else False)).all()
