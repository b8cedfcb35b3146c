"""The HTTP interface: an image in, a verdict out."""

import asyncio
import base64
import hmac
import io
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from PIL import Image
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sivt_lightning.data.datamodule import cpus
from sivt_lightning.drift import DriftMonitor
from sivt_lightning.errors import SIVTError
from sivt_lightning.prediction import Prediction
from sivt_lightning.predictor import Predictor, Prepared
from sivt_lightning.serve.batcher import Batcher
from sivt_lightning.serve.linger import Linger
from sivt_lightning.serve.log import RequestLog

IMAGE_TYPES = ("image/png", "image/jpeg", "image/bmp", "image/tiff", "image/webp", "application/octet-stream")
MOST_VALUE = 65535  # of a 16-bit PNG


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Args:
        bytes: of an image's file.
        pixels: of an image, which is not decoded where it has more.
        requests: taken at a time; more are told to come again.
        batch: images computed at a time.
        seconds: for an upload.
        linger: for the rest of an upload that has been refused, of at most four times `bytes`; then the client may
            find a broken connection instead of the reason.
    """

    bytes: int = 32_000_000
    pixels: int = 50_000_000
    requests: int = 64
    batch: int = 8
    seconds: float = 30.0
    linger: float = 4.0


class Problem(BaseModel):
    """Why there is no verdict."""

    error: str


class RegionFound(BaseModel):
    """Connected anomalous pixels, in the photo's own."""

    box: tuple[int, int, int, int] = Field(description="left, top, right, bottom; the last two are outside")
    area: int
    peak: float


class MapFound(BaseModel):
    """The anomaly map at the network's size: 16-bit PNG in base64; its levels times `scale` are the map's values."""

    png: str
    scale: float


class Verdict(BaseModel):
    """What the model says of an image."""

    score: float
    threshold: float
    is_anomalous: bool
    pixel_threshold: float
    width: int
    height: int
    regions: list[RegionFound]
    note: str | None = Field(None, description="what to know of how the photo was read, if anything")
    map: MapFound | None = Field(None, description="only where it was asked for")


class Health(BaseModel):
    """How the server is."""

    status: str


class Drift(BaseModel):
    """Whether the scores of normal parts have moved since training."""

    verdict: str = Field(description="steady, moved up, moved down, or cannot tell")
    sentence: str = Field(description="what to know of it, if anything")
    parts: int
    windows: int
    last: dict[str, Any] | None = Field(description="the last window that was compared")


class About(BaseModel):
    """The model that is served."""

    image_size: int
    threshold: float
    pixel_threshold: float
    categories: list[str]


class Refusal(Exception):
    """Answered with this status and sentence."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers


def ending() -> Refusal:
    """What is said once the server has been told to end."""
    return Refusal(503, "The server is shutting down. Ask another, or later.", **{"Retry-After": "5"})


class Service:
    """The model with all that stands between it and a request."""

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self.predictor, self.limits = predictor, limits
        self.taken = 0
        self.ready = False
        self.uploads = set[asyncio.Timeout]()
        self.drift = DriftMonitor(predictor.threshold)

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """From the first request to the last that was taken."""
        self.batcher = Batcher(self.predictor.predict, self.limits.batch)
        self.decoders = ThreadPoolExecutor(cpus(), "decoder")
        self.ready = True
        yield
        await self.batcher.close()
        self.decoders.shutdown()

    def end(self) -> None:
        """Takes nothing more; an upload that is under way is given up, for it may never end."""
        self.ready = False
        for upload in self.uploads:
            if not upload.expired():
                upload.reschedule(asyncio.get_running_loop().time())

    async def verdict(self, request: Request, with_map: bool) -> Verdict:
        """Raises Refusal."""
        if not self.ready:
            raise ending()
        if self.taken >= self.limits.requests:
            raise Refusal(503, "The server has all the requests that it can take. Try again.", **{"Retry-After": "1"})
        self.taken += 1
        try:
            content = await self._read(request)
            loop = asyncio.get_running_loop()
            image = await loop.run_in_executor(self.decoders, self._prepare, content)
            found, batch_size = await self.batcher.answer(image)
            told: dict[str, Any] = {"score": found.score, "anomalous": found.is_anomalous, "batch": batch_size}
            window = self.drift.add(found.score, found.is_anomalous)
            if window is not None and window in (self.drift.moved, self.drift.blind):
                told["drift"] = self.drift.sentence()
            request.scope["told"] |= told
            return await loop.run_in_executor(self.decoders, described, found, with_map)
        finally:
            self.taken -= 1

    async def _read(self, request: Request) -> bytes:
        limit = self.limits.bytes
        too_large = Refusal(413, f"The image's file has more than {limit} bytes, which are taken at most. Shrink it.")
        length = request.headers.get("content-length", "0")
        if length.isdigit() and int(length) > limit:
            raise too_large
        content = bytearray()
        try:
            async with asyncio.timeout(self.limits.seconds) as upload:
                self.uploads.add(upload)
                async for part in request.stream():
                    content += part
                    if len(content) > limit:
                        raise too_large
        except TimeoutError:
            if not self.ready:
                raise ending() from None
            raise Refusal(408, f"The upload took longer than {self.limits.seconds:g} s. Send it again.") from None
        except ClientDisconnect:
            raise Refusal(400, "The upload was broken off. Send it again.") from None
        finally:
            self.uploads.discard(upload)
        request.scope["told"]["bytes"] = len(content)
        return bytes(content)

    def _prepare(self, content: bytes) -> Prepared:
        try:
            return self.predictor.prepare(content, self.limits.pixels)
        except SIVTError as error:
            raise Refusal(400, str(error)) from error


def described(found: Prediction, with_map: bool) -> Verdict:
    """A prediction as it is sent."""
    regions = [RegionFound(box=one.box, area=one.area, peak=one.peak) for one in found.regions]
    return Verdict(
        score=found.score,
        threshold=found.threshold,
        is_anomalous=found.is_anomalous,
        pixel_threshold=found.pixel_threshold,
        width=found.size[0],
        height=found.size[1],
        regions=regions,
        note=found.note or None,
        map=_picture(found.anomaly_map) if with_map else None,
    )


def _picture(anomaly_map: np.ndarray) -> MapFound:
    scale = float(anomaly_map.max()) / MOST_VALUE or 1.0
    levels = np.rint(anomaly_map / scale).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG", compress_level=1)
    return MapFound(png=base64.b64encode(file.getvalue()).decode(), scale=scale)


def build_app(predictor: Predictor, limits: Limits, token: str | None = None) -> FastAPI:
    """The application; with a `token` only those who send it as a bearer token are served."""
    service = Service(predictor, limits)
    bearer = HTTPBearer(auto_error=False, description="The server's token, where it has one.")

    def allowed(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        given = "" if sent is None else sent.credentials
        if token is not None and not hmac.compare_digest(given.encode(), token.encode()):
            told = {"WWW-Authenticate": "Bearer"}
            raise Refusal(401, "Send the server's token: Authorization: Bearer TOKEN.", **told)

    # No pages of documentation: they would load scripts from the internet.
    app = FastAPI(title="SIVT", version="1", docs_url=None, redoc_url=None, lifespan=service.running)
    app.add_middleware(RequestLog)
    app.add_middleware(Linger, most=4 * limits.bytes, seconds=limits.linger)  # outside, for what the log answers, too
    app.state.service = service
    _answer_in_sentences(app)

    @app.get("/health")
    async def health() -> Health:
        """Whether the server is alive."""
        return Health(status="alive")

    @app.get("/ready", responses={503: {"model": Problem}})
    async def ready() -> Health:
        """Whether it takes requests."""
        if not service.ready:
            raise ending()
        return Health(status="ready")

    guarded: dict[str, Any] = {"dependencies": [Depends(allowed)]}
    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem} for status in (400, 401, 408, 413, 422, 500, 503)
    }

    @app.get("/v1/model", responses={401: {"model": Problem}}, **guarded)
    async def about() -> About:
        """What is served."""
        threshold = predictor.threshold
        names = sorted(predictor.model.thresholds.categories)
        size = predictor.model.image_size
        return About(image_size=size, threshold=threshold.image, pixel_threshold=threshold.pixel, categories=names)

    @app.get("/v1/drift", responses={401: {"model": Problem}}, **guarded)
    async def drift() -> Drift:
        """Whether the scores of normal parts have moved since training."""
        seen = service.drift
        last = None if seen.last is None else seen.last.plain()
        return Drift(verdict=seen.verdict, sentence=seen.sentence(), parts=seen.parts, windows=seen.windows, last=last)

    binary = {"schema": {"type": "string", "format": "binary"}}
    body = {"requestBody": {"required": True, "content": dict.fromkeys(IMAGE_TYPES, binary)}}
    told = "Also give the anomaly map, as a PNG."

    @app.post("/v1/predict", responses=problems, openapi_extra=body, response_model_exclude_none=True, **guarded)
    async def predict(request: Request, map: Annotated[bool, Query(description=told)] = False) -> Verdict:
        """The verdict on an image: the request's body is its file (PNG, JPEG, BMP, TIFF or WebP)."""
        return await service.verdict(request, map)

    return app


def _answer_in_sentences(app: FastAPI) -> None:
    """All that goes wrong as `Problem`."""

    def problem(status: int, sentence: str, headers: Any = None) -> Response:
        return JSONResponse({"error": sentence}, status, headers)

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        return problem(error.status, error.sentence, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return problem(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}.")

    @app.exception_handler(HTTPException)
    async def no_such(request: Request, error: HTTPException) -> Response:
        sentence = f"{request.method} {request.url.path}: {error.detail}. /openapi.json says what there is."
        return problem(error.status_code, sentence, error.headers)

    @app.exception_handler(SIVTError)
    async def failed(_: Request, error: SIVTError) -> Response:
        return problem(500, str(error))
