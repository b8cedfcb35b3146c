"""What the server says."""

from typing import Any

from pydantic import BaseModel, Field


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
