"""Random numbers that depend on a key and on nothing that ran before."""

import numpy as np
import torch


def generator_for(*key: int) -> torch.Generator:
    """A CPU generator for `key`, say (seed, epoch, image): the same whatever the batch, the process or the restart."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))  # manual_seed takes a signed 64-bit integer
