"""What a model with tiles and a memory bank would save and lose if it did not rebuild tiles that look as usual.

    python benchmarks/passing_over.py best.ckpt

The bank's residual of a tile is known before the transformer is asked. A tile whose score by that alone is no higher
than that of so many held-out good ones is passed over: the bank's residual stands for both, shifted by their mean
difference over the held-out ones. Figures of the test, with masks at their own size; and what the steps of an image
take, on one core.
"""

import argparse
import math
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor
from trained import Trained, load

from sivt_lightning.data.grid import Grid
from sivt_lightning.evaluation.tally import Tally, mean_of, plain
from sivt_lightning.inference.photos import joined
from sivt_lightning.model.image_score import image_score
from sivt_lightning.model.scoring import ALIKE

BATCH = 8


class Seen(NamedTuple):
    """Logarithms of residuals of a photo's images, by the reconstruction and by the memory bank."""

    rebuilt: Tensor
    remembered: Tensor
    grid: Grid
    mask: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    model = load(parser.parse_args().checkpoint)
    torch.set_num_threads(1)
    with torch.no_grad():
        costs(model)
        compare(model)


def costs(model: Trained) -> None:
    """Milliseconds of an image."""
    detector, bank = model.detector, model.detector.memory_bank
    assert bank is not None
    images = torch.rand(4, 3, model.data.image_size, model.data.image_size)
    features = detector.features(images)
    steps: dict[str, Callable[[], object]] = {
        "all": lambda: detector(images),
        "features": lambda: detector.features(images),
        "memory bank": lambda: bank(features),
        "reconstruction": lambda: detector.reconstruct(features),
    }
    for name, step in steps.items():
        times = []
        for _ in range(9):
            start = time.process_time()
            step()
            times.append(time.process_time() - start)
        print(f"{name:16}{1000 * median(times) / len(images):8.1f} ms")


def compare(model: Trained) -> None:
    """A line for each limit."""
    data = model.data
    batches = [range(start, min(start + BATCH, len(data.val_set))) for start in range(0, len(data.val_set), BATCH)]
    pairs = [residuals(model, torch.cat([data.val_set[i].images for i in batch])) for batch in batches]
    rebuilt, remembered = (torch.cat(part) for part in zip(*pairs, strict=True))
    shift = (rebuilt - remembered).mean() / 2
    usual = usualness(model, remembered)
    data.ask_of_test(True, False)
    photos = []
    for i in range(len(data.test_set)):
        item = data.test_set[i]
        photos.append(Seen(*residuals(model, item.images), item.grid, item.mask))
    for share in (0.0, 0.5, 0.75, 0.9, 1.0, math.inf):
        limit = share if math.isinf(share) else -math.inf if share == 0 else torch.quantile(usual, share).item()
        tally, over, tiles = Tally(data.test_set.samples), 0, 0
        for i, photo in enumerate(photos):
            passed = usualness(model, photo.remembered) <= limit
            over, tiles = over + int(passed[: photo.grid.tiles].sum()), tiles + photo.grid.tiles
            both = (photo.rebuilt + photo.remembered) / 2
            residual = torch.where(passed[:, None, None], photo.remembered + shift, both)
            score, anomaly_map = scoring_of(model, residual, photo.grid)
            tally.update([i], score, anomaly_map, [photo.mask])
        figures = [plain(one, "value") for one in tally.outcome().categories.values()]
        told = ", ".join(f"{name} {value:.4f}" for name, value in mean_of(figures, list(figures[0])).items())
        print(f"as usual as {min(share, 1):.0%} of held-out tiles: {over / tiles:.3f} passed over; {told}", flush=True)


def residuals(model: Trained, images: Tensor) -> tuple[Tensor, Tensor]:
    """Of the reconstruction, and of the memory bank."""
    detector = model.detector
    assert detector.memory_bank is not None
    features = detector.features(images)
    by = detector.scoring._logarithm
    return by(features, detector.reconstruct(features)), by(features, detector.memory_bank(features), ALIKE)


def usualness(model: Trained, remembered: Tensor) -> Tensor:
    """Of images: the score by the memory bank alone."""
    scoring = model.detector.scoring
    return image_score(scoring.averaging(remembered), scoring.image_score)


def scoring_of(model: Trained, residual: Tensor, grid: Grid) -> tuple[Tensor, list[Tensor]]:
    if grid.tiles > 1:
        score, anomaly_map, _ = joined(residual, grid, model.settings)
        return score[None], [anomaly_map]
    anomaly_map = model.detector.scoring.averaging(residual)
    return image_score(anomaly_map, model.detector.scoring.image_score), [anomaly_map[0]]


if __name__ == "__main__":
    main()
