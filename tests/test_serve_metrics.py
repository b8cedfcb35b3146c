"""What an operator sees of a server: figures for a monitoring, and a name for each request."""

import json

import pytest
from coloured import PRODUCTS, TOKEN, Coloured, client_of, photo
from prometheus_client.parser import text_string_to_metric_families

from sivt_lightning.inference.drifts import Drifts
from sivt_lightning.inference.judge import Asked, judge_of
from sivt_lightning.serve.metrics import Metrics

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def series(text: str) -> Series:
    """Every value by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_parts_and_requests_are_counted() -> None:
    with client_of(Coloured(known=PRODUCTS)) as client:
        for red, green in ((7, 0), (8, 0), (99, 0), (7, 200), (7, 100)):
            assert client.post("/v1/predict", content=photo(red, green=green)).status_code == 200
        client.post("/v1/predict/", content=b"none")
        client.get("/made/up/1")
        client.get("/made/up/2")
        for name in ("1", "2"):
            client.get(f"/v1/parts/{name}/photo")
            client.delete(f"/v1/parts/{name}/mark/", params={"who": "Ana"})
        client.get("/v1/parts/3")
        answer = client.get("/metrics")
        found = series(answer.text)
    assert answer.headers["content-type"].startswith("text/plain; version=")

    def count(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    assert count("sivt_parts_total", product="bolt", verdict="normal") == 2
    assert count("sivt_parts_total", product="bolt", verdict="anomalous") == 1
    assert count("sivt_parts_total", product="nut", verdict="normal") == 1
    assert count("sivt_parts_total", product="", verdict="unknown") == 1
    assert count("sivt_requests_total", path="/v1/predict", status="200") == 5
    assert count("sivt_requests_total", path="/v1/predict", status="400") == 1
    assert count("sivt_requests_total", path="other", status="404") == 3
    assert count("sivt_requests_total", path="/v1/parts/{name}/photo", status="404") == 2
    assert count("sivt_requests_total", path="/v1/parts/{name}/mark", status="404") == 2
    assert count("sivt_request_seconds_count", path="/v1/predict") == 6
    assert count("sivt_batch_images_sum") == 5
    assert (count("sivt_requests_in_work"), count("sivt_decoding_bytes"), count("sivt_ready")) == (0, 0, 1)


def test_a_product_that_has_moved_is_a_figure() -> None:
    drift = Drifts(judge_of(PRODUCTS, Asked()))
    for part in range(200):
        drift.add("normal", "bolt", 92.0 + part % 3)
        drift.add("normal", "nut", 1.0 + part % 94)
    found = series(Metrics([], {}).text(drift).decode())
    assert found["sivt_drift_moved", (("product", "bolt"),)] == 1
    assert found["sivt_drift_moved", (("product", "nut"),)] == 0


def test_figures_are_behind_the_token() -> None:
    with client_of(Coloured(), token=TOKEN) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize(
    ("sent", "kept"), [("part-7/b:1", True), ("two words", False), ("x" * 129, False), ("", False)]
)
def test_a_request_has_one_name_in_answer_and_log(sent: str, kept: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with client_of(Coloured()) as client:
        for path in ("/health", "/nowhere"):
            answer = client.get(path, headers={"X-Request-ID": sent})
            name = answer.headers["x-request-id"]
            assert (name == sent) == kept
            assert json.loads(capsys.readouterr().err.splitlines()[-1])["id"] == name
        assert client.get("/health").headers["x-request-id"] != client.get("/health").headers["x-request-id"]
