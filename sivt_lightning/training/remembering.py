"""Filling a model's memory bank from the training images, before the first epoch."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.dataset import Batch
from sivt_lightning.features.store import FeatureBatch
from sivt_lightning.model.memory_bank import MemoryBank
from sivt_lightning.processes import divide, place
from sivt_lightning.seeding import generator_for
from sivt_lightning.training.inspecting import inspected_positions

OF_A_CATEGORY, OF_ALL = 2**15, 2**19  # vectors to choose from, about
CANDIDATES = 5  # sets what is drawn for an image here apart from what else is


def remember(
    bank: MemoryBank,
    data: SIVTDataModule,
    features: Callable[[Batch | FeatureBatch], Float[Tensor, "B C H W"]],
    seed: int,
) -> None:
    """Fills the memory bank, on all processes alike. All of a training call it together.

    Held-out images stay out of it: their scores are those of images that the model does not know. So does what is not
    inspected.
    Raises SIVTError at an unreadable image, and where the bank is smaller than the number of categories.
    """
    if place()[0] == 0:
        print(f"Memory bank: choosing {len(bank.vectors)} feature vectors of {len(data.train_set)} images", flush=True)
    names = [sample.category for sample in data.train_set.samples]
    images = Counter(names)
    wanted = min(OF_A_CATEGORY, OF_ALL // len(images))

    def drawn(share: Sequence[int]) -> list[Float[Tensor, "_ C"]]:
        parts = []
        for batch in data.training_batches(share):
            maps = features(batch)
            seen = inspected_positions(data, data.train_set, batch.index, 0, maps.shape[-1])
            for position, (index, one) in enumerate(zip(batch.index.tolist(), maps, strict=True)):
                vectors = rearrange(one, "c h w -> (h w) c")
                if seen is not None:
                    vectors = vectors[seen[position].flatten().to(vectors.device) > 0]
                count = math.ceil(wanted / images[names[index]])
                order = torch.randperm(len(vectors), generator=generator_for(seed, 0, index, CANDIDATES))
                parts.append(vectors[order[:count].to(vectors.device)].half().cpu())
        return parts

    def filled(share: Sequence[int]) -> list[dict[str, Tensor]]:
        for _ in share:  # by one process: others may round otherwise
            bank.fill({name: torch.cat(parts) for name, parts in candidates.items()})
        return [{name: value.cpu() for name, value in bank.state_dict().items()} for _ in share]

    candidates = defaultdict(list)
    for name, part in zip(names, divide(drawn, range(len(names))), strict=True):
        candidates[name].append(part)
    bank.load_state_dict(divide(filled, range(1))[0])
