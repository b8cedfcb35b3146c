"""The parts that are kept, and what people say of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import FastAPI, Query, Response
from fastapi.responses import StreamingResponse

from sivt_lightning.files import csv_text
from sivt_lightning.serve.keeper import Keeper
from sivt_lightning.serve.messages import Counted, Marked, PartKept, PartsKept, Problem, Refusal, Saying
from sivt_lightning.serve.service import Service
from sivt_lightning.state.kept_parts import KEPT, KeptParts
from sivt_lightning.state.part import Part

TYPES = {"png": "image/png", "jpg": "image/jpeg", "bmp": "image/bmp", "tif": "image/tiff", "webp": "image/webp"}
# A photo is what somebody has uploaded: it is never taken for anything else, nor kept by others on the way.
AS_IT_IS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=3600"}
PIECE = 2**16  # bytes
MOST = 1000  # parts that are told at once


def route_parts(app: FastAPI, service: Service, looked_up: Callable[..., Any], guarded: dict[str, Any]) -> None:
    """Adds the routes; `looked_up` those that are only read."""

    @looked_up(app, "/v1/parts", 401, 422, 503, **guarded)
    async def parts(last: Annotated[int, Query(ge=1, le=MOST, description="How many")] = KEPT) -> PartsKept:
        """The parts that were judged last or have a mark, the newest first, and counts of the last hours."""
        promised, keeper = service.model.predictor.judge.false_alarms, service.keeper
        if keeper is None:
            return PartsKept(parts=[], counts=[], promised=promised, kept=False, not_kept=0)
        found, counts = await keeper.ask(_told, keeper.kept, last)
        return PartsKept(parts=found, counts=counts, promised=promised, kept=True, not_kept=keeper.not_kept)

    @looked_up(app, "/v1/parts/{name}/photo", 401, 404, 503, response_class=Response, **guarded)
    async def photo(name: str) -> Response:
        """The photo of a part: the bytes that were uploaded."""
        part = await _part(service, name)
        return await _file(service, KeptParts.photo, part, TYPES[part.suffix])

    @looked_up(app, "/v1/parts/{name}/map", 401, 404, 503, response_class=Response, **guarded)
    async def map(name: str) -> Response:
        """The map of a part as a grey PNG: black for nothing, white for twice the pixel threshold and more."""
        return await _file(service, KeptParts.map, await _part(service, name), TYPES["png"])

    @looked_up(app, "/v1/parts/{name}/thumbnail", 401, 404, 503, response_class=Response, **guarded)
    async def thumbnail(name: str) -> Response:
        """A small picture of a part as a JPEG; the photo where there is none, as of an earlier version."""
        part = await _part(service, name)
        try:
            return await _file(service, KeptParts.thumbnail, part, TYPES["jpg"])
        except Refusal:
            return await _file(service, KeptParts.photo, part, TYPES[part.suffix])

    problems: dict[str, Any] = {"responses": {s: {"model": Problem} for s in (400, 401, 404, 422, 503)}} | guarded

    @app.post("/v1/parts/{name}/mark", **problems)
    async def mark(name: str, said: Saying) -> PartKept:
        """A person says that the part is good or has a defect, whatever the verdict was."""
        return await _mark(service, name, said.says, said.who)

    @app.delete("/v1/parts/{name}/mark", **problems)
    async def undo(name: str, who: Annotated[str, Query(min_length=1, max_length=100)]) -> PartKept:
        """A person takes the part's mark back."""
        return await _mark(service, name, None, who)

    @looked_up(app, "/v1/marks", 401, 404, 503, response_class=Response, **guarded)
    async def marks() -> Response:
        """All marked photos as a list, which `sivt calibrate --good` and `sivt fit` read on this machine."""
        keeper = _keeper(service)
        text = await keeper.ask(_list, keeper.kept)
        headers = {"Content-Disposition": 'attachment; filename="marks.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


def _keeper(service: Service) -> Keeper:
    if service.keeper is None:
        raise Refusal(404, "This server keeps no parts: start it with --state FOLDER.")
    return service.keeper


def _gone(name: str) -> Refusal:
    return Refusal(404, f"Part {name} is not kept: only the last {KEPT} are, and those that have a mark.")


async def _part(service: Service, name: str) -> Part:
    keeper = _keeper(service)
    part = await keeper.ask(keeper.kept.part, name)
    if part is None:
        raise _gone(name)
    return part


async def _mark(service: Service, name: str, says: str | None, who: str) -> PartKept:
    keeper = _keeper(service)
    part = await keeper.ask(keeper.kept.mark, name, says, who)
    if part is None:
        raise _gone(name)
    return _shown(part)


async def _file(service: Service, place: Callable[[KeptParts, Part], Path], part: Part, kind: str) -> Response:
    """A file in pieces, none of which holds up anybody; opened it is there until it has been sent."""
    file = place(_keeper(service).kept, part)
    try:
        opened: BinaryIO = await service.decoders.run(open, file, "rb")
    except OSError as error:
        raise _gone(part.id) from error
    return StreamingResponse(_pieces(opened), media_type=kind, headers=AS_IT_IS)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        yield from iter(lambda: file.read(PIECE), b"")


def _told(kept: KeptParts, last: int) -> tuple[list[PartKept], list[Counted]]:
    counts = [Counted(**count._asdict(), parts=parts) for count, parts in kept.counts()]
    return [_shown(part) for part in kept.parts(last)], counts


def _shown(part: Part) -> PartKept:
    mark = part.mark and Marked(**part.mark._asdict())
    told = {name: value for name, value in vars(part).items() if name in PartKept.model_fields}
    return PartKept(**told | {"mark": mark})


def _list(kept: KeptParts) -> str:
    rows = [
        [str(kept.photo(part).resolve()), part.product or "", part.mark.says] for part in kept.marked() if part.mark
    ]
    return csv_text([["path", "product", "label"], *rows])
