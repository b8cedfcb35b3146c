"""The HTTP interface: an image in, a verdict out."""

import hmac
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.predictor import Predictor
from sivt_lightning.serve.body import FORM, JSON
from sivt_lightning.serve.cors import CORS
from sivt_lightning.serve.front_page import front_page
from sivt_lightning.serve.host_names import HostNames
from sivt_lightning.serve.linger import Linger
from sivt_lightning.serve.log import LastWord, RequestLog
from sivt_lightning.serve.messages import (
    About,
    Drift,
    Health,
    Problem,
    ProductDrift,
    Refusal,
    ShadowReport,
    Threshold,
    Verdict,
)
from sivt_lightning.serve.metrics import TYPE, Metrics
from sivt_lightning.serve.part_routes import route_parts
from sivt_lightning.serve.service import Limits, Service
from sivt_lightning.state.kept_parts import KeptParts

IMAGE_TYPES = ("image/png", "image/jpeg", "image/bmp", "image/tiff", "image/webp", "application/octet-stream")
FILE = {"type": "string", "format": "binary"}
BASE64 = {"type": "string", "description": "The image's file in base64, or a data: URL of it."}
PHOTO = {
    **{kind: {"schema": FILE} for kind in IMAGE_TYPES},
    FORM: {"schema": {"type": "object", "properties": {"file": FILE}, "required": ["file"]}},
    JSON: {
        "schema": {
            "type": "object",
            "properties": {"image": BASE64},
            "required": ["image"],
            "additionalProperties": False,
        }
    },
}
WITH_MAP = "Also give the anomaly map, as a PNG: true or false; 1, yes and on, or 0, no and off, are taken, too."


def build_app(
    predictor: Predictor,
    limits: Limits,
    token: str | None = None,
    origins: Sequence[str] = (),
    shadow: Predictor | None = None,
    kept: KeptParts | None = None,
    names: Sequence[str] = (),
) -> FastAPI:
    """The application; with a `token` only those who send it as a bearer token are served, without one only those who
    ask for this machine by a name of its own, or by an address.

    Args:
        predictor: the model.
        limits: of what is taken.
        token: see above.
        origins: of the pages whose scripts may ask.
        shadow: another model, asked the same.
        kept: where parts that were judged are kept, with what people say of them.
        names: by which it may be asked, too.
    """
    service = Service(predictor, limits, shadow, kept)
    # No pages of documentation: they would load scripts from the internet.
    app = FastAPI(title="SIVT", version="1", docs_url=None, redoc_url=None, lifespan=service.running)
    app.state.service = service
    _answer_in_sentences(app)
    _route(app, service, token)
    app.state.metrics = Metrics({route.path for route in app.routes if isinstance(route, Route)}, service.gauges())
    app.add_middleware(LastSlash)  # the first is innermost
    app.add_middleware(LastWord)
    if origins:
        app.add_middleware(CORS, origins=origins)
    if token is None:  # which pages of other sites do not know
        app.add_middleware(HostNames, names=names, origins=origins)
    app.add_middleware(RequestLog, seen=app.state.metrics.seen)
    app.add_middleware(Linger, most=4 * limits.bytes, seconds=limits.linger)
    return app


def _route(app: FastAPI, service: Service, token: str | None) -> None:
    bearer = HTTPBearer(auto_error=False, description="The server's token, where it has one.")

    def allowed(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        given = "" if sent is None else sent.credentials
        if token is not None and not hmac.compare_digest(given.encode(), token.encode()):
            headers = {"WWW-Authenticate": "Bearer"}
            raise Refusal(401, "Send the server's token: Authorization: Bearer TOKEN.", **headers)

    guarded: dict[str, Any] = {"dependencies": [Depends(allowed)]}
    front = front_page(token is not None, service.kept is not None)

    @_looked_up(app, "/", include_in_schema=False)  # for people
    async def page() -> Response:
        """The page, which holds no data and asks for the token itself."""
        return front

    @_looked_up(app, "/health")
    async def health() -> Health:
        """Whether the server is alive."""
        return Health(status="alive")

    @_looked_up(app, "/ready", 503)
    async def ready() -> Health:
        """Whether it takes requests."""
        service.check_ready()
        return Health(status="ready")

    @_looked_up(app, "/v1/model", 401, **guarded)
    async def about() -> About:
        """What is served."""
        predictor = service.model.predictor
        judge, model = predictor.judge, predictor.model.about
        one = predictor.category
        chosen = [one] if one is not None or not judge.recognises else model.categories
        limits = {name or "": judge.threshold(name) for name in chosen}
        return About(
            model=service.model.identity,
            version=version("sivt_lightning"),
            image_size=model.image_size,
            threshold=limits[""].image if "" in limits else None,
            pixel_threshold=limits[""].pixel if "" in limits else None,
            categories=model.categories,
            false_alarms=judge.false_alarms,
            thresholds={name: Threshold(score=limit.image, pixel=limit.pixel) for name, limit in limits.items()},
        )

    @_looked_up(app, "/v1/drift", 401, **guarded)
    async def drift() -> Drift:
        """Whether the scores of normal parts have moved since the model was calibrated."""
        seen = service.model.drift
        products = [
            ProductDrift(
                product=name,
                verdict=one.verdict,
                sentence=one.sentence(),
                parts=one.parts,
                windows=one.windows,
                last=one.last.plain() if one.last else None,
            )
            for name, one in seen.monitors.items()
        ]
        return Drift(
            verdict=seen.verdict,
            sentence=" ".join(seen.sentences()),
            parts=seen.parts,
            unknown=seen.unknown,
            products=products,
        )

    @_looked_up(app, "/v1/shadow", 401, 404, **guarded)
    async def shadow() -> ShadowReport:
        """What another model that is asked the same says otherwise."""
        return service.compared()

    @app.post("/v1/swap", responses=_problems(401, 404, 503), **guarded)
    async def swap() -> Health:
        """Served model and shadow change places, without an image lost."""
        await service.swap()
        return Health(status=f"{service.model.identity} is served")

    @_looked_up(app, "/metrics", 401, include_in_schema=False, **guarded)  # a monitoring knows its format
    async def metrics() -> Response:
        """What a monitoring reads, in the format of Prometheus."""
        return Response(app.state.metrics.text(service.model.drift), media_type=TYPE)

    route_parts(app, service, _looked_up, guarded)

    body = {"requestBody": {"required": True, "content": PHOTO}}
    problems = _problems(400, 401, 408, 413, 422, 500, 503)

    @app.post("/v1/predict", responses=problems, openapi_extra=body, response_model_exclude_none=True, **guarded)
    async def predict(request: Request, map: Annotated[bool, Query(description=WITH_MAP)] = False) -> Verdict:
        """The verdict on an image (PNG, JPEG, BMP, TIFF or WebP).

        The request's body is its file as it is, a form with it, or JSON with it in base64.
        """
        return await service.verdict(request, map)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem} for status in statuses}


def _looked_up(app: FastAPI, path: str, *statuses: int, **settings: Any) -> Callable[[Any], Any]:
    """Routes GET, and HEAD, which is answered without the body."""

    def add(function: Any) -> Any:
        app.get(path, responses=_problems(*statuses), **settings)(function)
        empty: dict[int | str, dict[str, Any]] = {
            status: {"description": "As GET, without its body."} for status in (200, *statuses)
        }
        app.head(path, responses=empty, response_model=None, **settings)(function)
        return function

    return add


class LastSlash:
    """Takes a path for the same with and without a slash at its end."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["path"].removesuffix("/") or "/"}
        await self.app(scope, receive, send)


def _allowed(app: FastAPI, request: Request) -> str:
    """Methods of a path, of all its routes: Starlette names those of the first."""
    routes = [route for route in app.routes if isinstance(route, Route)]
    fitting = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted(method for route in fitting for method in route.methods or ()))


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
        headers = {"Allow": _allowed(app, request)} if error.status_code == 405 else error.headers
        return problem(error.status_code, sentence, headers)

    @app.exception_handler(SIVTError)
    async def failed(_: Request, error: SIVTError) -> Response:
        return problem(500, str(error))
