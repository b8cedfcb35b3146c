"""Images of many requests to one model: what waits while it computes becomes its next batch."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from sivt_lightning.prediction import Prediction
from sivt_lightning.predictor import Prepared

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
        self.thread = ThreadPoolExecutor(1, "model")
        self.task = asyncio.create_task(self._run())

    async def answer(self, image: Prepared) -> Answer:
        """Raises what `predict` raised for this image."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.waiting.append((image, future))
        self.arrived.set()
        return await future

    async def close(self) -> None:
        """Ends the thread; whoever still waits is answered first."""
        while self.waiting:
            await asyncio.sleep(0.01)
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        self.thread.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self.arrived.wait()
            batch = [self.waiting[i] for i in range(min(self.most, len(self.waiting)))]
            found = await loop.run_in_executor(self.thread, self._predict, [image for image, _ in batch])
            for (_, future), one in zip(batch, found, strict=True):
                self.waiting.popleft()
                if future.done():  # its client has gone
                    continue
                if isinstance(one, Exception):
                    future.set_exception(one)
                else:
                    future.set_result(one)
            if not self.waiting:
                self.arrived.clear()

    def _predict(self, images: list[Prepared]) -> list[Answer | Exception]:
        """One answer an image; where a batch fails, its images are tried one by one, so that none fails for another."""
        try:
            found = self.predict(images)
            if len(found) != len(images):
                raise RuntimeError(f"{len(found)} predictions of {len(images)} images")
            return [Answer(one, len(images)) for one in found]
        except Exception as error:
            if len(images) == 1:
                return [error]
            return [one for image in images for one in self._predict([image])]
