"""Random numbers that depend on a key and on nothing that ran before."""

import numpy as np
import torch


def generator_for(*key: int) -> torch.Generator:
    """A CPU generator for `key`, say (seed, epoch, image): the same whatever the batch, the process or the restart."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))  # manual_seed takes a signed 64-bit integer


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """From low to below high."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def ratio(generator: torch.Generator, low: float, high: float) -> float:
    """Uniform in the logarithm."""
    return low * (high / low) ** uniform(generator, 0.0, 1.0)


def integer(generator: torch.Generator, low: int, high: int) -> int:
    """From low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
