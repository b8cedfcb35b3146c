"""A training step recorded as CUDA graphs: one by one, its thousand kernels take longer to launch than to compute."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sivt_lightning.model.loss import reconstruction_loss
from sivt_lightning.model.reconstructor import Reconstructor


class BatchLoss:
    """The loss of a batch of features: what is reconstructed of them, or of `seen` in their place, and Eq. 2 at the
    positions `inspected`, mean over the images."""

    def __init__(self, reconstructor: Reconstructor, cosine_weight: float) -> None:
        self.reconstructor, self.cosine_weight = reconstructor, cosine_weight

    def __call__(
        self,
        features: Float[Tensor, "B C H W"],
        partition: Int64[Tensor, "#B L"],
        gain: Float[Tensor, "B L D"] | None = None,
        seen: Float[Tensor, "B C H W"] | None = None,
        inspected: Float[Tensor, "B H W"] | None = None,
    ) -> Float[Tensor, ""]:
        reconstruction = self.reconstructor(features if seen is None else seen, partition, gain)
        return reconstruction_loss(features, reconstruction, self.cosine_weight, inspected).mean()


class RecordedLoss(BatchLoss):
    """The same on a GPU: its kernels, forward and backward, are recorded at the first batch and replayed for others.

    A batch of another shape, such as an epoch's last, is computed as ever.
    """

    def __init__(self, reconstructor: Reconstructor, cosine_weight: float) -> None:
        super().__init__(reconstructor, cosine_weight)
        self.recording: _Recording | None = None

    def __call__(
        self,
        features: Float[Tensor, "B C H W"],
        partition: Int64[Tensor, "#B L"],
        gain: Float[Tensor, "B L D"] | None = None,
        seen: Float[Tensor, "B C H W"] | None = None,
        inspected: Float[Tensor, "B H W"] | None = None,
    ) -> Float[Tensor, ""]:
        inputs = (features, partition, gain, seen, inspected)
        if torch.is_anomaly_enabled():  # it looks at every result, which a recording cannot wait for
            return super().__call__(*inputs)
        if self.recording is None or len(features) > self.recording.batch[0]:  # continued at an epoch's end
            self.recording = _Recording(super().__call__, inputs, list(self.reconstructor.parameters()))
        if features.shape != self.recording.batch:
            return super().__call__(*inputs)
        for own, given in zip(self.recording.inputs, inputs, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        return _Replay.apply(self.recording, *self.recording.parameters)


class _Recording:
    """The kernels of a loss and those of its gradients, and the memory that they read and write at every replay."""

    def __init__(
        self,
        compute: Callable[..., Tensor],
        inputs: tuple[Tensor, *tuple[Tensor | None, ...]],
        parameters: Sequence[nn.Parameter],
    ) -> None:
        self.inputs, self.parameters = [None if part is None else part.clone() for part in inputs], parameters
        self.batch = inputs[0].shape
        dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")

        def loss_of_inputs() -> Tensor:
            # With its cache, autocast would have recorded copies of the weights as they are now.
            with torch.autocast("cuda", dtype=dtype, enabled=enabled, cache_enabled=False):
                return compute(*self.inputs)

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.autocast("cuda", enabled=False):
            for _ in range(3):  # what libraries set up at their first calls is not to be recorded
                torch.autograd.grad(loss_of_inputs(), parameters)
            torch.cuda.synchronize()
            # Other threads go on meanwhile: they bring images to the GPU.
            kept: dict[str, Any] = {"stream": stream, "capture_error_mode": "thread_local"}
            self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.forward, **kept):
                loss = loss_of_inputs()
            self.loss_gradient = torch.ones_like(loss)
            # Not in the memory of the recording: the next forward replay writes over what this one's backward has left.
            self.gradients = [torch.empty_like(parameter) for parameter in parameters]
            with torch.cuda.graph(self.backward, pool=self.forward.pool(), **kept):
                torch._foreach_copy_(self.gradients, torch.autograd.grad(loss, parameters, self.loss_gradient))
        torch.cuda.current_stream().wait_stream(stream)
        self.loss = loss.detach()


class _Replay(torch.autograd.Function):
    """The recorded loss, as a function of the parameters."""

    @staticmethod
    def forward(ctx: Any, recording: _Recording, *parameters: Tensor) -> Tensor:
        ctx.recording = recording
        recording.forward.replay()
        return recording.loss.clone()  # the next replay writes over it

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        recording: _Recording = ctx.recording
        for parameter in recording.parameters:
            if parameter.grad is not None:  # to be added to: it lies where the replay writes
                parameter.grad = parameter.grad.clone()
        recording.loss_gradient.copy_(gradient)
        recording.backward.replay()
        return None, *(part.detach() for part in recording.gradients)
