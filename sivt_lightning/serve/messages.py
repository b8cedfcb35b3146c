"""What the server says."""

from typing import Any

from pydantic import BaseModel, Field

from sivt_lightning.state.part import Says


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
    is_anomalous: bool = Field(description="whether it has not passed: an unknown part has not")
    verdict: str = Field(description="normal, anomalous, or unknown where it shows none of the products")
    known: bool = Field(description="whether it shows one of the products; true where the model recognises none")
    product: str | None = Field(None, description="recognised, or told with --category; none where it is unknown")
    calibrated: float | None = Field(
        None, description="log10 N, where about 1 of N good parts of the product scores as high or higher"
    )
    pixel_threshold: float
    width: int
    height: int
    regions: list[RegionFound]
    note: str | None = Field(None, description="what to know of how the photo was read, if anything")
    map: MapFound | None = Field(None, description="only where it was asked for")
    part: str | None = Field(None, description="by which it is found under /v1/parts, where it is kept")


class Health(BaseModel):
    """How the server is."""

    status: str


class ProductDrift(BaseModel):
    """Whether the scores of normal parts of one product have moved since its calibration."""

    product: str | None = Field(None, description="none where the model recognises none")
    verdict: str = Field(description="steady, moved up, moved down, or cannot tell")
    sentence: str = Field(description="what to know of it, if anything")
    parts: int
    windows: int
    last: dict[str, Any] | None = Field(description="the last window that was compared")


class Drift(BaseModel):
    """Whether the scores of normal parts have moved since the model was calibrated."""

    verdict: str = Field(description="of the first product that has moved; steady where all are; else cannot tell")
    sentence: str = Field(description="what to know of it, if anything")
    parts: int
    unknown: int = Field(description="of them, which show none of the products")
    products: list[ProductDrift]


class Threshold(BaseModel):
    """Above which a part is anomalous."""

    score: float
    pixel: float


class About(BaseModel):
    """The model that is served."""

    model: str = Field(description="digits that no other model has")
    version: str = Field(description="of sivt_lightning, which serves it")
    image_size: int
    threshold: float | None = Field(None, description="where there is one for all products")
    pixel_threshold: float | None = Field(None, description="likewise")
    categories: list[str]
    false_alarms: float | None = Field(description="share of good parts that may be called anomalous, if promised")
    thresholds: dict[str, Threshold] = Field(description="by product; of all under an empty name")


class Judged(BaseModel):
    """What a model said."""

    verdict: str
    product: str | None
    score: float
    threshold: float


class Changed(BaseModel):
    """An image that the shadow judges otherwise."""

    request: str = Field(description="its X-Request-ID")
    time: str
    served: Judged
    shadow: Judged


class Turned(BaseModel):
    """How many images changed from one verdict to another, or to another product."""

    served: str
    shadow: str
    parts: int


class ShadowReport(BaseModel):
    """What another model, asked the same, says otherwise."""

    model: str = Field(description="digits that no other model has")
    parts: int = Field(description="images that both have judged")
    agreeing: int = Field(description="of them, with the same verdict and product")
    dropped: int = Field(description="images that it was not asked about, for want of time")
    failed: int
    turned: list[Turned]
    last: list[Changed]


class Marked(BaseModel):
    """What a person says that a part is."""

    says: Says
    who: str
    time: str


class PartKept(BaseModel):
    """A part that was judged."""

    id: str
    time: str = Field(description="ISO, UTC")
    name: str | None = Field(description="of the file, where a form told it")
    product: str | None
    verdict: str
    score: float
    threshold: float
    calibrated: float | None
    model: str = Field(description="that judged it: digits that no other model has")
    mark: Marked | None


class Counted(BaseModel):
    """Parts of an hour that were judged alike."""

    hour: str = Field(description="UTC, such as 2026-11-27T18")
    product: str | None
    verdict: str
    parts: int


class PartsKept(BaseModel):
    """Parts that were judged last, and how many of which kind."""

    parts: list[PartKept] = Field(description="the newest first")
    counts: list[Counted] = Field(description="of the last 48 hours, oldest first")
    promised: float | None = Field(description="share of good parts that may be called anomalous")
    kept: bool = Field(description="whether parts are kept at all")
    not_kept: int = Field(description="parts that could not be, since the server's start")


class Saying(BaseModel):
    """A mark that is made."""

    says: Says = Field(description="what the photo shows")
    who: str = Field(description="who says so", min_length=1, max_length=100)


class Refusal(Exception):
    """Answered with this status and sentence."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers


def ending() -> Refusal:
    """What is said once the server has been told to end."""
    return Refusal(503, "The server is shutting down. Ask another, or later.", **{"Retry-After": "5"})
