"""The precisions that a model is trained and used in, as Lightning names them."""

from contextlib import AbstractContextManager

import torch

from sivt_lightning.errors import SIVTError

DTYPES = {"32-true": None, "32": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def check_precision(name: str, device: str) -> str:
    """Raises SIVTError where there is no such precision, or a device of this type ("cpu", "cuda") has it not."""
    if name not in DTYPES:
        raise SIVTError(f"precision {name}: choose one of {', '.join(DTYPES)}.")
    if name == "16-mixed" and device == "cpu":  # torch would silently compute in bfloat16
        raise SIVTError("precision 16-mixed needs a GPU, and none is in use: choose 32-true or bf16-mixed.")
    return name


def autocast(name: str, device: str) -> AbstractContextManager:
    """The context in which a network computes so, as Lightning's precision plugin has it."""
    dtype = DTYPES[name]
    return torch.autocast(device, dtype=dtype or torch.bfloat16, enabled=dtype is not None)
