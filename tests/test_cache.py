"""The feature cache: computed once, read once, and equal to what it stands for within float16."""

from pathlib import Path

import torch

from sivt_lightning.data.cache import FeatureCache
from sivt_lightning.data.datamodule import SIVTDataModule


def test_features_are_computed_once_for_each_image() -> None:
    cache, seen = FeatureCache(torch.float16), []

    def compute(images: torch.Tensor) -> torch.Tensor:
        seen.extend(images[:, 0, 0, 0].tolist())
        return images.mean(dim=(2, 3), keepdim=True) / 3

    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    for rows in ([0, 1], [1, 2], [3, 0, 2], [2, 2]):
        found = cache.lookup(torch.tensor(rows), images[rows], compute)
        torch.testing.assert_close(found, images[rows].mean(dim=(2, 3), keepdim=True) / 3, rtol=1e-3, atol=0)
        assert found.dtype == torch.float32
    assert sorted(seen) == [0, 1, 2, 3]


def test_features_do_not_depend_on_the_batch_they_were_first_met_in() -> None:
    cache, sizes = FeatureCache(torch.float16), []

    def compute(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return images

    cache.lookup(torch.arange(3), torch.rand(3, 3, 2, 2), compute)
    assert sizes == [1, 1, 1]


def test_cached_images_are_not_read_again(tiny_data: Path) -> None:
    data = SIVTDataModule(str(tiny_data), image_size=32, batch_size=4, cache="memory", num_workers=2)
    data.setup("fit")
    for batch in data.train_dataloader():
        data.feature_caches["train"].lookup(batch.index, batch.images, lambda images: images)
    assert len(data.feature_caches["train"].features) == len(data.train_set) == 18
    data.train_set.samples = [None] * 18  # type: ignore[list-item]  # reading any would fail
    for batch in data.train_dataloader():
        assert not batch.images.any()
        assert batch.errors == [""] * len(batch.index)


def test_without_a_cache_every_epoch_reads(tiny_data: Path) -> None:
    data = SIVTDataModule(str(tiny_data), image_size=32, batch_size=4, num_workers=0)
    data.setup("fit")
    for _ in range(2):
        assert all(batch.images.any() for batch in data.train_dataloader())
