"""Another model beside the one that is served: what it would say otherwise, and how it takes that one's place."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from coloured import PRODUCTS, TOKEN, Coloured, client_of, photo
from fastapi.testclient import TestClient

from sivt_lightning.inference.judge import Asked
from sivt_lightning.inference.prediction import Prediction
from sivt_lightning.serve.service import Limits


class Strict(Coloured):
    """Passes scores up to 50, where the served one passes 94."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(seconds, PRODUCTS, Asked(threshold=50.0))
        self.model.identity = lambda: "strict"


def pair(limits: Limits = Limits(), shadow: Coloured | None = None, seconds: float = 0.0) -> TestClient:  # noqa: B008
    served = Coloured(seconds, PRODUCTS)
    return client_of(served, limits, shadow=shadow or Strict())


def report(client: TestClient, judged: int) -> dict[str, Any]:
    """Once the shadow has said so much, or was not asked."""
    for _ in range(500):
        found: dict[str, Any] = client.get("/v1/shadow").json()
        if found["parts"] + found["dropped"] + found["failed"] >= judged:
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def test_what_it_judges_otherwise_is_told() -> None:
    with pair() as client:
        for red in (7, 60, 99):
            answer = client.post("/v1/predict", content=photo(red), headers={"X-Request-ID": f"part-{red}"})
            assert answer.json()["verdict"] == ("anomalous" if red == 99 else "normal")
        found = report(client, 3)
    assert (found["model"], found["parts"], found["agreeing"], found["dropped"]) == ("strict", 3, 2, 0)
    assert found["turned"] == [{"served": "normal", "shadow": "anomalous", "parts": 1}]
    [one] = found["last"]
    assert one["request"] == "part-60"
    assert one["served"] == {"verdict": "normal", "product": "bolt", "score": 60.0, "threshold": 94.0} | {
        "threshold": one["served"]["threshold"]
    }
    assert one["shadow"]["verdict"] == "anomalous"


def test_it_delays_nobody_and_its_failures_are_its_own() -> None:
    """A red of 13 fails in each of these models: the served one answers with 500, the shadow is counted."""

    class Failing(Strict):
        def predict(self, images: Any) -> list[Prediction]:
            raise RuntimeError("broken")

    with pair(shadow=Failing()) as client:
        assert client.post("/v1/predict", content=photo(7)).status_code == 200
        assert report(client, 1)["failed"] == 1
        assert client.post("/v1/predict", content=photo(8)).status_code == 200
        assert report(client, 2)["failed"] == 2


def test_images_that_it_has_no_time_for_are_counted_and_not_kept() -> None:
    shadow = Strict()
    shadow.free.clear()
    file = photo(7)
    with pair(Limits(bytes=2 * len(file)), shadow) as client:  # two of the largest files may wait
        for _ in range(7):
            assert client.post("/v1/predict", content=file).status_code == 200
        assert client.app.state.service.shadow.held == 4 * len(file)  # type: ignore[attr-defined]
        shadow.free.set()
        found = report(client, 7)
    assert (found["parts"], found["dropped"]) == (4, 3)


def test_they_change_places_and_nobody_goes_without_an_answer() -> None:
    with pair(seconds=0.02) as client, ThreadPoolExecutor(8) as threads:

        def ask(number: int) -> str:
            if number == 20:
                assert client.post("/v1/swap").json() == {"status": "strict is served"}
            return str(client.post("/v1/predict", content=photo(60)).json()["verdict"])

        verdicts = list(threads.map(ask, range(60)))
        assert set(verdicts) == {"normal", "anomalous"}
        assert verdicts[-1] == "anomalous"
        assert client.get("/v1/model").json()["model"] == "strict"
        assert client.get("/v1/shadow").json()["model"] == "coloured"
        assert client.post("/v1/swap").json() == {"status": "coloured is served"}  # and back
        assert client.post("/v1/predict", content=photo(60)).json()["verdict"] == "normal"
        assert client.get("/ready").status_code == 200


def test_without_a_shadow_that_is_said_and_with_a_token_it_is_asked_for() -> None:
    with client_of(Coloured()) as client:
        assert client.post("/v1/swap").status_code == client.get("/v1/shadow").status_code == 404
        assert "start the server with --shadow MODEL" in client.get("/v1/shadow").json()["error"]
    with client_of(Coloured(), token=TOKEN, shadow=Strict()) as client:
        assert client.post("/v1/swap").status_code == client.get("/v1/shadow").status_code == 401


def test_an_image_that_is_on_its_way_is_judged_by_the_model_that_took_it() -> None:
    with pair() as client, ThreadPoolExecutor(1) as threads:
        service = client.app.state.service  # type: ignore[attr-defined]
        model = service.model
        model.users += 1  # as while an upload goes on
        swapped = threads.submit(client.post, "/v1/swap")
        while service.model is model:
            time.sleep(0.01)
        time.sleep(0.1)
        assert not swapped.done()
        image = model.predictor.prepare(photo(60))
        assert client.portal.call(model.batcher.answer, image).prediction.verdict == "normal"  # type: ignore[union-attr]
        model.users -= 1
        assert swapped.result().status_code == 200
