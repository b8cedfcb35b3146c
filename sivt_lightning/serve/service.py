"""The model with all that stands between it and a request."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from PIL import Image
from starlette.requests import ClientDisconnect

from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.prediction import Prediction
from sivt_lightning.inference.predictor import Predictor, Prepared
from sivt_lightning.serve.body import Body, body_of
from sivt_lightning.serve.header import LARGEST, decoding_cost
from sivt_lightning.serve.keeper import Keeper
from sivt_lightning.serve.log import note
from sivt_lightning.serve.memory import Budget, Share
from sivt_lightning.serve.messages import MapFound, Refusal, RegionFound, ShadowReport, Verdict, ending
from sivt_lightning.serve.shadow import Shadow
from sivt_lightning.serve.threads import Threads
from sivt_lightning.serve.working import Working
from sivt_lightning.state.kept_parts import KeptParts
from sivt_lightning.system import cpus

MOST_VALUE = 65535  # of a 16-bit PNG
LARGEST_WAITING = 2  # of the largest files, for a shadow, and to be kept


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Args:
        bytes: of an image's file.
        pixels: of an image, which is not decoded where it has more.
        requests: taken at a time; more are told to come again.
        batch: images computed at a time.
        memory: bytes that uploads (a quarter) and images being decoded (the rest) may take together; by default what
            four of the largest files and one of the largest images need.
        seconds: for an upload.
        wait: seconds for others to give memory back.
        linger: for the rest of an upload that has been refused, of at most four times `bytes`; then the client may
            find a broken connection instead of the reason.
    """

    bytes: int = 32_000_000
    pixels: int = 50_000_000
    requests: int = 64
    batch: int = 8
    memory: int | None = None
    seconds: float = 30.0
    wait: float = 10.0
    linger: float = 4.0

    def shares(self) -> tuple[int, int]:
        """Of the memory: for uploads, for decoding."""
        memory = max(16 * self.bytes, LARGEST * self.pixels * 4 // 3) if self.memory is None else self.memory
        return memory // 4, memory - memory // 4


class Service:
    """The model with all that stands between it and a request."""

    def __init__(
        self, predictor: Predictor, limits: Limits, other: Predictor | None = None, kept: KeptParts | None = None
    ) -> None:
        self.limits, self.predictors, self.kept = limits, (predictor, other), kept
        self.keeper: Keeper | None = None
        self.taken = 0
        self.ready = False
        self.arriving = set[asyncio.Timeout]()
        self.uploads, self.decoding = map(Budget, limits.shares())

    def gauges(self) -> dict[str, tuple[str, Callable[[], float]]]:
        """What an operator may look at at any time: by name what it is, and how it is read."""
        return {
            "sivt_requests_in_work": ("Requests taken and not answered yet", lambda: self.taken),
            "sivt_upload_bytes": ("Memory that uploads hold", lambda: self.uploads.held),
            "sivt_decoding_bytes": ("Memory that images hold", lambda: self.decoding.held),
            "sivt_ready": ("1 while it takes requests", lambda: self.ready),
            "sivt_parts_not_kept": ("Parts judged that could not be kept", lambda: self.not_kept),
        }

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """From the first request to the last that was taken."""
        self._employ(*self.predictors)
        if self.kept is not None:
            self.keeper = Keeper(self.kept, LARGEST_WAITING * self.limits.bytes)
        self.decoders = Threads(cpus(), "decoder")
        self.ready = True
        yield
        if self.shadow is not None:
            await self.shadow.close()
        await self.model.close()
        self.decoders.close()
        if self.keeper is not None:
            await self.keeper.close()

    @property
    def not_kept(self) -> int:
        """Parts that have been judged, and should have been kept."""
        return 0 if self.keeper is None else self.keeper.not_kept

    def _employ(self, predictor: Predictor, other: Predictor | None) -> None:
        """The models are these from the next request on."""
        self.model = Working(predictor, self.limits.batch, self._noted)
        room = LARGEST_WAITING * self.limits.bytes
        self.shadow = None if other is None else Shadow(other, room, self.limits.pixels, lambda: self.taken > 0)

    async def swap(self) -> None:
        """Served and shadow change places; what the old one has taken it still answers. Raises Refusal."""
        self.check_ready()
        model, shadow = self.model, self._shadow()
        self._employ(shadow.predictor, model.predictor)
        note("info", f"Model {self.model.identity} is served, {model.identity} is its shadow.")
        await asyncio.gather(shadow.close(), model.close())

    def compared(self) -> ShadowReport:
        """What the shadow says otherwise. Raises Refusal where there is none."""
        return self._shadow().report()

    def _shadow(self) -> Shadow:
        if self.shadow is None:
            raise Refusal(404, "No other model runs beside this one: start the server with --shadow MODEL.")
        return self.shadow

    def _noted(self, _: object) -> None:
        if self.ready and self.model.batcher.stopped is not None:
            note("error", f"{self.model.batcher.stopped}; /ready says no. Start the server again.")

    def end(self) -> None:
        """Takes nothing more; an upload that is under way is given up, for it may never end."""
        self.ready = False
        for upload in self.arriving:
            if not upload.expired():
                upload.reschedule(asyncio.get_running_loop().time())

    def check_ready(self) -> None:
        """Raises Refusal where it takes no requests, or cannot answer them."""
        if not self.ready:
            raise ending()
        trouble = self.model.batcher.trouble or self.decoders.trouble
        if trouble is not None:
            raise Refusal(503, f"The server does not work: {trouble}. Start it again.")

    async def verdict(self, request: Request, with_map: bool) -> Verdict:
        """Raises Refusal."""
        if not self.ready:
            raise ending()
        if self.taken >= self.limits.requests:
            raise Refusal(503, "The server has all the requests that it can take. Try again.", **{"Retry-After": "1"})
        self.taken += 1
        model = self.model  # which prepares and judges it, also where another takes its place meanwhile
        model.users += 1
        try:
            with ExitStack() as held:
                image, content, name = await self._image(request, model, held)
                prediction, batch_size = await model.batcher.answer(image)
                if self.shadow is not None and content:
                    self.shadow.offer(content, prediction, request.scope["details"]["id"])
                part = self.keeper and self.keeper.offer(content, image, prediction, name, model.identity)
            details: dict[str, Any] = {
                "score": prediction.score,
                "verdict": prediction.verdict,
                "product": prediction.product,
                "batch": batch_size,
            }
            model.drift.add(prediction.verdict, prediction.product, prediction.score)
            if model.drift.news:
                details["drift"] = model.drift.news
            request.scope["details"] |= details
            return await self.decoders.run(described, prediction, with_map, part)
        finally:
            self.taken -= 1
            model.users -= 1

    async def _image(self, request: Request, model: Working, held: ExitStack) -> tuple[Prepared, bytes, str | None]:
        """The image; its file, where a shadow is asked about it or it is kept; and the file's name, where it is told.

        Holds of each budget, while it needs it, what this request may take; what both still do is `held`.
        """
        body = body_of(request.headers.get("content-type", ""))
        most, amount, known = self._size(body, request.headers.get("content-length", ""))
        upload = held.enter_context(await self._room(self.uploads, amount))
        body.expect(known)
        await self._read(request, body, most)
        content, name = await self.decoders.run(body.file), body.name
        del body
        if len(content) > self.limits.bytes:
            raise self._too_large()
        upload.shrink(len(content))
        request.scope["details"]["bytes"] = len(content)
        cost = model.prepared + await self.decoders.run(decoding_cost, content, self.limits.pixels)
        if cost > self.decoding.most:
            reason = f"The image takes {cost} bytes to decode, and the server has {self.decoding.most} for it"
            raise Refusal(400, f"{reason} (--max_memory). Shrink it.")
        room = held.enter_context(await self._room(self.decoding, cost))
        image = await self.decoders.run(self._prepare, content, model.predictor)
        room.shrink(image.images.nbytes)
        if self.shadow is None and self.keeper is None:
            upload.shrink(0)
            content = b""
        return image, content, name

    def _too_large(self) -> Refusal:
        limit = self.limits.bytes
        return Refusal(413, f"The image's file has more than {limit} bytes, which are taken at most. Shrink it.")

    def _size(self, body: Body, length: str) -> tuple[int, int, int]:
        """Bytes that will be sent at most, that they take in memory, and that are known to come.

        Where no length was told, the first two are the worst: nobody waits for more while he holds some.
        """
        most = body.most(self.limits.bytes)
        if not length.isdecimal():
            most = min(most, self.uploads.most // body.copies)
            return most, most * body.copies, 0
        if int(length) > most:
            raise self._too_large()
        amount = int(length) * body.copies
        if amount > self.uploads.most:
            reason = f"The request takes {amount} bytes of memory, and the server has {self.uploads.most} for it"
            raise Refusal(413, f"{reason} (--max_memory). Shrink the image, or send it as it is.")
        return int(length), amount, int(length)

    async def _room(self, budget: Budget, amount: int) -> Share:
        try:
            async with asyncio.timeout(self.limits.wait) as wait:
                if budget is self.uploads:
                    self.arriving.add(wait)
                return await budget.take(amount)
        except TimeoutError:
            if not self.ready and budget is self.uploads:
                raise ending() from None
            sentence = "The server has no memory left for this image. Try again."
            raise Refusal(503, sentence, **{"Retry-After": "1"}) from None
        finally:
            self.arriving.discard(wait)

    async def _read(self, request: Request, body: Body, most: int) -> None:
        if not self.ready:  # told to end while this one waited for room
            raise ending()
        size = 0
        try:
            async with asyncio.timeout(self.limits.seconds) as upload:
                self.arriving.add(upload)
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise self._too_large()
                    body.add(part)
        except TimeoutError:
            if not self.ready:
                raise ending() from None
            raise Refusal(408, f"The upload took longer than {self.limits.seconds:g} s. Send it again.") from None
        except ClientDisconnect:
            raise Refusal(400, "The upload was broken off. Send it again.") from None
        finally:
            self.arriving.discard(upload)

    def _prepare(self, content: bytes, predictor: Predictor) -> Prepared:
        try:
            return predictor.prepare(content, self.limits.pixels)
        except SIVTError as error:
            raise Refusal(400, str(error)) from error


def described(prediction: Prediction, with_map: bool, part: str | None = None) -> Verdict:
    """A prediction as it is sent, with the id of the part that is kept of it."""
    regions = [RegionFound(box=one.box, area=one.area, peak=one.peak) for one in prediction.regions]
    return Verdict(
        score=prediction.score,
        threshold=prediction.threshold,
        is_anomalous=prediction.is_anomalous,
        verdict=prediction.verdict,
        known=prediction.verdict != "unknown",
        product=prediction.product,
        calibrated=prediction.calibrated,
        pixel_threshold=prediction.pixel_threshold,
        width=prediction.size[0],
        height=prediction.size[1],
        regions=regions,
        note=prediction.note or None,
        part=part,
        map=_picture(prediction.anomaly_map) if with_map else None,
    )


def _picture(anomaly_map: np.ndarray) -> MapFound:
    scale = float(anomaly_map.max()) / MOST_VALUE or 1.0
    levels = np.rint(anomaly_map / scale).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG", compress_level=1)
    return MapFound(png=base64.b64encode(file.getvalue()).decode(), scale=scale)
