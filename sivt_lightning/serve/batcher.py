"""Images of many requests to one model: what waits while it computes becomes its next batch."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sivt_lightning.inference.prediction import Prediction
from sivt_lightning.inference.predictor import Prepared
from sivt_lightning.serve.threads import Threads, tame

Predict = Callable[[Sequence[Prepared]], list[Prediction]]


class Answer(NamedTuple):
    """What is said of one image, and with how many it was computed."""

    prediction: Prediction
    batch_size: int


class Batcher:
    """One thread for the model. A batch is what has come in while the last one was computed: nobody waits for others.

    Args:
        predict: gives as many predictions as it is given images, in their order.
        most: images in a batch.
    """

    def __init__(self, predict: Predict, most: int) -> None:
        self.predict, self.most = predict, most
        self.waiting: deque[tuple[Prepared, asyncio.Future[Answer]]] = deque()
        self.arrived = asyncio.Event()
        self.thread = Threads(1, "model")
        self.stopped: str | None = None  # why it computes no more, though nobody told it to end
        self.task = asyncio.create_task(self._run())
        self.task.add_done_callback(self._ended)

    @property
    def trouble(self) -> str | None:
        """Why images get no answer."""
        return self.stopped or self.thread.trouble

    async def answer(self, image: Prepared) -> Answer:
        """Raises what `predict` raised for this image, and RuntimeError where nothing is computed any more."""
        if self.stopped is not None:
            raise RuntimeError(self.stopped)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.waiting.append((image, future))
        self.arrived.set()
        return await future

    async def close(self) -> None:
        """Ends the thread; whoever still waits is answered first."""
        while self.waiting:
            await asyncio.sleep(0.01)
        self.task.remove_done_callback(self._ended)
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        self.thread.close()

    async def _run(self) -> None:
        while True:
            await self.arrived.wait()
            batch = [self.waiting[i] for i in range(min(self.most, len(self.waiting)))]
            try:
                answers = await self.thread.run(self._predict, [image for image, _ in batch])
            except Exception as error:  # no thread took it, which the next batch may find otherwise
                answers = [error] * len(batch)
            for (_, future), one in zip(batch, answers, strict=True):
                self.waiting.popleft()
                _settle(future, one)
            if not self.waiting:
                self.arrived.clear()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nobody waits for what never comes."""
        reason = "it was cancelled" if task.cancelled() else repr(task.exception())
        self.stopped = f"the batcher has ended: {reason}"
        while self.waiting:
            _settle(self.waiting.popleft()[1], RuntimeError(self.stopped))

    def _predict(self, images: list[Prepared]) -> list[Answer | Exception]:
        """One answer an image; where a batch fails, its images are tried one by one, so that none fails for another."""
        try:
            predictions = tame(self.predict, images)
            if len(predictions) != len(images):
                raise RuntimeError(f"{len(predictions)} predictions of {len(images)} images")
            if not all(isinstance(one, Prediction) for one in predictions):
                raise TypeError(f"predictions of type {', '.join({type(one).__name__ for one in predictions})}")
            return [Answer(one, len(images)) for one in predictions]
        except Exception as error:
            if len(images) == 1:
                return [error]
            return [one for image in images for one in self._predict([image])]


def _settle(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    if future.done():  # its client has gone
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
