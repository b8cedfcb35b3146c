"""Another model beside the one that is served: asked the same, and heard by nobody but the operator."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime

from sivt_lightning.inference.prediction import Prediction
from sivt_lightning.inference.predictor import Predictor
from sivt_lightning.serve.log import note
from sivt_lightning.serve.messages import Changed, Judged, ShadowReport, Turned
from sivt_lightning.serve.threads import Threads

KEPT = 20  # images of other verdicts, of which more is told than their number
PAUSE = 0.02  # s, until it is looked again whether the served model is idle


class Shadow:
    """Judges images after the served model has, while nobody waits for that: it delays no answer, and its failures are
    counted. What there is no room for is not asked.

    Args:
        predictor: the model.
        most: bytes of images that may wait.
        pixels: of an image, which is not decoded where it has more.
        busy: whether somebody waits for the served model.

    Needs a running loop.
    """

    def __init__(self, predictor: Predictor, most: int, pixels: int, busy: Callable[[], bool]) -> None:
        self.predictor, self.most, self.pixels, self.busy = predictor, most, pixels, busy
        self.identity = predictor.model.identity()
        self.waiting: deque[tuple[bytes, Prediction, str]] = deque()
        self.held = self.parts = self.agreeing = self.dropped = self.failed = 0
        self.turned: Counter[tuple[str, str]] = Counter()
        self.last: deque[Changed] = deque(maxlen=KEPT)
        self.arrived = asyncio.Event()
        self.thread = Threads(1, "shadow")
        self.task = asyncio.create_task(self._run())

    def offer(self, content: bytes, served: Prediction, request: str) -> None:
        """An image that has been answered, by the name of its request."""
        if self.held + len(content) > self.most:
            self.dropped += 1
            return
        self.held += len(content)
        self.waiting.append((content, served, request))
        self.arrived.set()

    async def close(self) -> None:
        """What still waits is not asked any more."""
        self.task.cancel()
        await asyncio.wait([self.task])
        await asyncio.to_thread(self.thread.close)  # it may be at an image

    async def _run(self) -> None:
        while True:
            await self.arrived.wait()
            while self.busy():
                await asyncio.sleep(PAUSE)
            content, served, request = self.waiting[0]
            try:
                self._compare(served, await self.thread.run(self._ask, content), request)
            except Exception as error:
                self.failed += 1
                note("error", f"The shadow failed on request {request}: {type(error).__name__}: {error}")
            self.waiting.popleft()
            self.held -= len(content)
            if not self.waiting:
                self.arrived.clear()

    def _ask(self, content: bytes) -> Prediction:
        return self.predictor.predict([self.predictor.prepare(content, self.pixels)])[0]

    def _compare(self, served: Prediction, found: Prediction, request: str) -> None:
        self.parts += 1
        if (served.verdict, served.product) == (found.verdict, found.product):
            self.agreeing += 1
            return
        self.turned[served.verdict, found.verdict] += 1
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self.last.append(Changed(request=request, time=at, served=_judged(served), shadow=_judged(found)))

    def report(self) -> ShadowReport:
        """So far."""
        turned = [Turned(served=old, shadow=new, parts=count) for (old, new), count in self.turned.most_common()]
        return ShadowReport(
            model=self.identity,
            parts=self.parts,
            agreeing=self.agreeing,
            dropped=self.dropped,
            failed=self.failed,
            turned=turned,
            last=list(self.last),
        )


def _judged(prediction: Prediction) -> Judged:
    return Judged(
        verdict=prediction.verdict,
        product=prediction.product,
        score=prediction.score,
        threshold=prediction.threshold,
    )
