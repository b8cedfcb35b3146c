"""A model at work in a server."""

import asyncio
from collections.abc import Callable

from sivt_lightning.inference.drifts import Drifts
from sivt_lightning.inference.predictor import Predictor
from sivt_lightning.serve.batcher import Batcher

PAUSE = 0.02  # s, until it is looked again whether it has nothing more to do


class Working:
    """One model, with what has been seen of its scores and what waits for it.

    Args:
        predictor: the model.
        most: images in a batch.
        stopped: is called where it computes no more, though nobody told it to end.

    Needs a running loop.
    """

    def __init__(self, predictor: Predictor, most: int, stopped: Callable[[object], None]) -> None:
        self.predictor, self.drift = predictor, Drifts(predictor.judge)
        self.users = 0  # requests that it has to answer
        self.batcher = Batcher(predictor.predict, most)
        self.batcher.task.add_done_callback(stopped)
        self.identity = predictor.model.identity()
        about = predictor.model.about
        # Bytes of the network's images, float32, beside the photo that they are made of; where it is cut, of the
        # canvas, too.
        self.prepared = (2 * about.tiles.most_images - 1) * 3 * about.image_size**2 * 4

    async def close(self) -> None:
        """Once all that it was taken for is answered."""
        while self.users:
            await asyncio.sleep(PAUSE)
        await self.batcher.close()
