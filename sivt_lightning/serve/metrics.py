"""What an operator's monitoring reads at /metrics, in the format of Prometheus."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.routing import compile_path

from sivt_lightning.inference.drifts import Drifts

TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)
OTHER = "other"  # whatever a client makes up would each be a series


class Metrics:
    """Of one server; each has its own, as tests run several in a process.

    Args:
        paths: that are told apart, as routes have them: /v1/parts/{name}/photo is one.
        gauges: by name, what is read when somebody asks, and what it is.
    """

    def __init__(self, paths: Collection[str], gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self.paths, self.registry = {path: compile_path(path)[0] for path in paths}, CollectorRegistry()
        ours: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("sivt_requests", "Requests answered", ["path", "status"], **ours)
        self.seconds = Histogram("sivt_request_seconds", "From request to answer", ["path"], buckets=SECONDS, **ours)
        self.parts = Counter("sivt_parts", "Images judged", ["product", "verdict"], **ours)
        self.batches = Histogram("sivt_batch_images", "Images computed together", buckets=(1, 2, 4, 8, 16, 32), **ours)
        self.moved = Gauge("sivt_drift_moved", "1 where scores of normal parts have moved", ["product"], **ours)
        for name, (what, read) in gauges.items():
            Gauge(name, what, **ours).set_function(read)

    def seen(self, line: Mapping[str, Any]) -> None:
        """A request, as the log has it."""
        asked = line["path"].removesuffix("/") or "/"
        path = next((path for path, fits in self.paths.items() if fits.match(asked)), OTHER)
        self.requests.labels(path, line["status"]).inc()
        self.seconds.labels(path).observe(line["ms"] / 1000)
        if "verdict" in line:
            self.parts.labels(line["product"] or "", line["verdict"]).inc()
            self.batches.observe(line["batch"])

    def text(self, drift: Drifts) -> bytes:
        """All of it, for the answer."""
        self.moved.clear()  # another model may be served by now
        for name, monitor in drift.monitors.items():
            self.moved.labels(name or "").set(monitor.verdict.startswith("moved"))
        return generate_latest(self.registry)
