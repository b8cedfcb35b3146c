"""Measuring on a device: time, memory, and how fast it multiplies."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from sivt_lightning.model.precision import DTYPES
from sivt_lightning.system import give_back_freed_memory, peak_memory

CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Machine:
    """Where and in which precision something is measured."""

    device: torch.device
    precision: str
    seconds: float  # how long one thing is measured, at least

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def median_time(self, call: Callable[[], object]) -> float:
        """Seconds of a call, after one to warm up."""
        call()
        times: list[float] = []
        while sum(times) < self.seconds or len(times) < 3:
            self.synchronize()
            start = time.perf_counter()
            call()
            self.synchronize()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def matrix_rate(self) -> float:
        """Multiply-adds per second in one large matrix product, the most that this machine can do."""
        side = 8192 if self.device.type == "cuda" else 2048
        dtype = DTYPES[self.precision] or torch.float32
        left, right = torch.randn(2, side, side, device=self.device, dtype=dtype)
        return side**3 / self.median_time(lambda: left @ right)

    def reset_peak(self) -> None:
        """Memory is counted from here."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        give_back_freed_memory()
        if CLEAR.exists():
            CLEAR.write_text("5")  # the peak becomes what is in use now

    def peak_bytes(self) -> int | None:
        """The most memory in use since: the device's, or that of this process; None where the system does not tell."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return peak_memory()
