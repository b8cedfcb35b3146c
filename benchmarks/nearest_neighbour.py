"""The strongest nearest-neighbour search we can make of the same features, to be held against (PatchCore's idea).

    python benchmarks/nearest_neighbour.py CHECKPOINT [--bank 5000] [--shared] [--random] [--output FILE.json]

Takes data, backbone, image size and features from a checkpoint of `sivt fit`; nothing of its transformer. One memory
bank for each category, which this method has to be told for every image (--shared makes one of all); filled by a greedy
coreset, each patch the farthest from those taken before (--random takes any). A patch's score is the distance to its
nearest neighbour; map and image scores are made as this package makes its own, and as PatchCore does: image score the
highest mean over 3 x 3 patches. Prints image and pixel AUROC and AP by category.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torch.utils.data import DataLoader
from trained import load

from sivt_lightning.data.dataset import ImageDataset, collate
from sivt_lightning.evaluation.tally import Tally, mean_of, plain
from sivt_lightning.model.averaging import Averaging
from sivt_lightning.model.image_score import image_score
from sivt_lightning.model.memory_bank import coreset

SHOWN = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")
PROJECTED = 64  # dimensions in which the coreset looks for distances (Johnson-Lindenstrauss, as PatchCore does)


def spread(patches: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Positions of `size` patches that are far from one another."""
    projection = torch.randn(patches.shape[1], PROJECTED, generator=generator) / PROJECTED**0.5
    return coreset(patches @ projection, size)


def distances(patches: Tensor, bank: Tensor) -> Tensor:
    """Of each patch to its nearest in the bank."""
    squares = bank.square().sum(1)
    parts = [
        (part.square().sum(1, keepdim=True) + squares - 2 * part @ bank.T).min(1).values for part in patches.split(4096)
    ]
    return torch.cat(parts).clamp(min=0).sqrt()


@torch.inference_mode()
def main() -> None:
    """Fill the banks, look up the test images, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("--bank", type=int, default=5000, help="patches of a category's bank")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    detector, data, settings = load(given.checkpoint)
    generator = torch.Generator().manual_seed(0)

    def features(images: ImageDataset) -> list[tuple[list[int], Tensor]]:
        loader = DataLoader(images, batch_size=16, collate_fn=collate, num_workers=1)
        return [(batch.index.tolist(), detector.features(batch.images)) for batch in loader]

    by_category: dict[str, list[Tensor]] = {}
    for index, maps in features(data.train_set):
        for i, one in zip(index, maps, strict=True):
            by_category.setdefault(data.train_set.samples[i].category, []).append(one.flatten(1).T.half())
    banks = {}
    for category, maps in by_category.items():
        patches = torch.cat(maps).float()
        chosen = torch.randperm(len(patches), generator=generator)[: given.bank]
        banks[category] = patches[chosen if given.random else spread(patches, given.bank, generator)]
        print(f"{category}: {len(banks[category])} of {len(patches)} patches", flush=True)
    if given.shared:
        banks = dict.fromkeys(banks, torch.cat(list(banks.values())))
    samples = data.test_set.samples
    averaging = Averaging(settings["feature_stride"], 1.0, settings["smoothing_sigma"])
    tallies = {"PatchCore's score": Tally(samples), "our score": Tally(samples)}
    for index, feature_maps in features(data.test_set):
        side = feature_maps.shape[-1]
        parts = [
            distances(one.flatten(1).T, banks[samples[i].category]).view(1, 1, side, side)
            for i, one in zip(index, feature_maps, strict=True)
        ]
        grid = torch.cat(parts)
        maps = averaging(grid[:, 0].log())
        masks = [data.test_set[i].mask for i in index]
        highest = avg_pool2d(grid, 3, 1, 1).flatten(1).max(1).values
        tallies["PatchCore's score"].update(index, highest, maps, masks)
        ours = image_score(maps, settings["image_score"])
        tallies["our score"].update(index, ours, maps, masks)
    report = {}
    for name, tally in tallies.items():
        rows = {category: plain(figures, "value") for category, figures in tally.outcome().categories.items()}
        rows["mean"] = mean_of(list(rows.values()), SHOWN)
        report[name] = rows
        print(
            name,
            *(f"{category:15s} " + " ".join(f"{row[f]:.4f}" for f in SHOWN) for category, row in rows.items()),
            sep="\n",
        )
    if given.output:
        given.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
