"""What is kept of the parts that are judged, while nobody waits for it."""

import asyncio
import io
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, TypeVar
from uuid import uuid4

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image

from sivt_lightning.data.opening import opened_file
from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.prediction import Prediction
from sivt_lightning.inference.predictor import Prepared
from sivt_lightning.serve.log import note
from sivt_lightning.serve.messages import Refusal
from sivt_lightning.serve.threads import Threads
from sivt_lightning.state.kept_parts import KeptParts
from sivt_lightning.state.part import Count, Part, now

PAUSE = 0.02  # s, until it is looked again whether all is written
LONGEST_NAME = 300  # letters
LONGEST_MAP, LONGEST_THUMBNAIL = 512, 256  # pixels of the longer side
QUALITY = 80  # of the thumbnail, a JPEG
SUFFIXES = {"PNG": "png", "JPEG": "jpg", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp"}

Result = TypeVar("Result")


class Waiting(NamedTuple):
    """A part that is still to be written."""

    id: str
    time: str
    name: str | None
    model: str
    content: bytes
    prediction: Prediction
    seen: UInt8[np.ndarray, "3 S S"]  # by the network, of the whole photo

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.content) + self.prediction.anomaly_map.nbytes + self.seen.nbytes


class Keeper:
    """Writes parts in a thread of its own after they have been judged, and is asked for them there. What there is no
    room for, in the queue or on the disk, is counted; it holds up nobody and fails nobody.

    Args:
        kept: where.
        most: bytes of photos, with what belongs to them, that may wait; one photo always may.

    Needs a running loop.
    """

    def __init__(self, kept: KeptParts, most: int) -> None:
        self.kept, self.most = kept, most
        self.waiting: deque[Waiting] = deque()
        self.counts: Counter[Count] = Counter()  # that are still to be written
        self.held = self.not_kept = 0
        self.troubled = False
        self.arrived = asyncio.Event()
        self.thread = Threads(1, "state")
        self.task = asyncio.create_task(self._run())

    def offer(
        self, content: bytes, image: Prepared, prediction: Prediction, name: str | None, model: str
    ) -> str | None:
        """A photo that has been judged, its file's name and the model's identity; the part's id, where it is taken."""
        seen = np.rint(255 * image.images[-1].numpy()).astype(np.uint8)  # however it is cut, the last is the whole
        one = Waiting(uuid4().hex, now(), name and name[:LONGEST_NAME], model, content, prediction, seen)
        self.counts[Count.at(one.time, prediction.product, prediction.verdict)] += 1
        self.arrived.set()
        if self.held and self.held + one.size > self.most:
            self._lost("parts come faster than they can be written")
            return None
        self.held += one.size
        self.waiting.append(one)
        return one.id

    async def ask(self, question: Callable[..., Result], *given: object) -> Result:
        """Something of what is kept. Raises Refusal where it cannot be had."""
        try:
            return await self.thread.run(question, *given)
        except SIVTError as error:
            raise Refusal(503, str(error)) from error

    async def close(self) -> None:
        """Once all is written, or has failed."""
        while self.waiting:
            await asyncio.sleep(PAUSE)
        self.task.cancel()
        await asyncio.wait([self.task])
        with suppress(Exception):
            await self.thread.run(self._write, None, self.counts)
        await asyncio.to_thread(self.thread.close)
        self.kept.close()

    async def _run(self) -> None:
        while True:
            await self.arrived.wait()
            self.arrived.clear()
            await self._write_all()

    async def _write_all(self) -> None:
        while self.waiting or self.counts:
            one = self.waiting[0] if self.waiting else None
            counts, self.counts = self.counts, Counter()
            try:
                await self.thread.run(self._write, one, counts)
                self.troubled = self.troubled and one is None
            except Exception as error:
                self.counts += counts
                if one is None:
                    return  # until the next one comes
                self._lost(str(error))
            if one is not None:
                self.waiting.popleft()
                self.held -= one.size

    def _lost(self, why: str) -> None:
        self.not_kept += 1
        if not self.troubled:  # told once, until it goes well again
            note("error", f"A part is not kept: {why}. /v1/parts counts those that are not.")
        self.troubled = True

    def _write(self, one: Waiting | None, counts: Counter[Count]) -> None:
        if one is None:
            self.kept.add(None, (), counts)
            return
        said = one.prediction
        judged = (said.product, said.verdict, said.score, said.threshold, said.calibrated)
        part = Part(one.id, one.time, one.name, *judged, one.model, _suffix(one.content))
        pictures = map_picture(said.anomaly_map, said.pixel_threshold), thumbnail(one.seen, said.size)
        self.kept.add(part, (one.content, *pictures), counts)


def _suffix(content: bytes) -> str:
    with opened_file(io.BytesIO(content)) as opened:
        return SUFFIXES[str(opened.image.format)]


def map_picture(anomaly_map: Float[np.ndarray, "height width"], pixel_threshold: float) -> bytes:
    """A PNG of the map as grey levels: 0 for nothing, 255 for twice the pixel threshold and more."""
    levels = np.clip(anomaly_map / (2 * pixel_threshold or 1.0), 0, 1) * 255
    picture = Image.fromarray(np.rint(levels).astype(np.uint8))
    picture.thumbnail((LONGEST_MAP, LONGEST_MAP), Image.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def thumbnail(seen: UInt8[np.ndarray, "3 S S"], size: tuple[int, int]) -> bytes:
    """A JPEG of a photo of this width and height, of what the network saw of it: no file is decoded for it."""
    longer = max(size)
    most = min(LONGEST_THUMBNAIL, seen.shape[-1], longer)
    width, height = (max(1, round(most * side / longer)) for side in size)
    file = io.BytesIO()
    Image.fromarray(rearrange(seen, "c h w -> h w c")).resize((width, height)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
