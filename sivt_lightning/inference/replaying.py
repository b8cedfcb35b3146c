"""A detector on a GPU, recorded as CUDA graphs: one by one, its kernels take longer to launch than to compute."""

from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.model.detection import Detection

MOST = 32  # images of a batch that is recorded; larger ones keep a GPU busy as they are (docs/performance.md)
RECORDING = Lock()  # of all models: torch counts its random numbers for one recording at a time

Compute = Callable[[Float[Tensor, "B 3 S S"]], Detection]


class Replaying:
    """What `compute` makes of images on a GPU. Its kernels are recorded at the first batch of a size, and replayed.

    Threads may share it: they take turns. Recordings share their memory, for no two are replayed at a time.
    """

    def __init__(self, compute: Compute, device: torch.device) -> None:
        self.compute, self.device = compute, device
        self.recordings: dict[torch.Size, _Recording] = {}
        self.turn, self.pool = Lock(), torch.cuda.graph_pool_handle()

    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection:
        """In float32 on the CPU."""
        with self.turn, torch.cuda.device(self.device):
            if len(images) > MOST:
                return on_cpu(self.compute(images.to(self.device)))
            if images.shape not in self.recordings:
                with RECORDING:
                    self.recordings[images.shape] = _Recording(self.compute, images.to(self.device), self.pool)
            return on_cpu(self.recordings[images.shape].replay(images))


class _Recording:
    """The kernels for a batch, and the memory that they read and write at every replay."""

    def __init__(self, compute: Compute, images: Tensor, pool: Any) -> None:
        self.images, self.graph = images.clone(), torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # what libraries set up at their first calls is not to be recorded
                compute(self.images)
        torch.cuda.current_stream().wait_stream(stream)
        # Other threads go on meanwhile.
        with torch.cuda.graph(self.graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self.detection = compute(self.images)

    def replay(self, images: Tensor) -> Detection:
        """Overwritten by the next replay."""
        self.images.copy_(images)
        self.graph.replay()
        return self.detection


def on_cpu(detection: Detection) -> Detection:
    """In float32."""
    parts: Any = detection  # tensors, as a detector gives them
    return Detection(*(part.float().cpu() for part in parts))
