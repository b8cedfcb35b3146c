"""The ways in which an image is sent, and a web page's."""

import base64
import http.client
import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from coloured import TOKEN, Coloured, client_of, listening, photo

from sivt_lightning.serve.app import Limits, build_app
from sivt_lightning.state.kept_parts import KeptParts

JSON = {"Content-Type": "application/json"}


def encoded(content: bytes, before: str = "") -> str:
    return json.dumps({"image": before + base64.encodebytes(content).decode()})


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/predict/"])
def test_every_way_gives_the_same_verdict(path: str) -> None:
    content = photo(42)
    ways: list[dict[str, Any]] = [
        {"content": content},
        {"content": content, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},  # curl's
        {"content": content, "headers": {"Content-Type": "image/png"}},
        {"files": {"file": ("a.png", content, "image/png")}},
        {"files": {"photo": content}},
        {"content": encoded(content), "headers": JSON},
        {"content": iter([encoded(content).encode()]), "headers": {"Content-Type": "application/json; charset=utf-8"}},
        {"content": encoded(content, "data:image/png;base64,"), "headers": JSON},
        {"content": b'{"image": "%s"}' % base64.b64encode(content).replace(b"/", rb"\/"), "headers": JSON},
    ]
    with client_of(Coloured(), Limits(bytes=len(content))) as client:
        plain = client.post(path, content=content).json()
        assert plain["score"] == 42
        for way in ways:
            assert client.post(path, **way).json() == plain
        assert client.get("/health/").json() == {"status": "alive"}
        assert client.get("/v2/").status_code == 404


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_sends_a_form(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(photo(42))
    with listening(Limits()) as (host, port):
        curl = ["curl", "-s", "-F", f"file=@{tmp_path / 'photo.png'}", f"http://{host}:{port}/v1/predict"]
        done = subprocess.run(curl, capture_output=True, timeout=20)
    assert json.loads(done.stdout)["score"] == 42


EDGE = {"Content-Type": "multipart/form-data; boundary=edge"}
PART = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"files": {"one": photo(1), "two": photo(2)}}, "several parts. Send one"),
        ({"files": {"file": photo(1)}, "data": {"camera": "3"}}, "holds a value, but no file"),
        ({"files": {"file": (None, photo(1))}}, "holds a value, but no file"),
        ({"files": {"file": b""}}, "there is nothing in it"),
        ({"content": PART + photo(1), "headers": EDGE}, "it is cut off"),
        ({"content": photo(1), "headers": EDGE}, "not parted by the boundary"),
        ({"content": b"", "headers": EDGE}, "it is cut off"),
        ({"content": b"--edge--\r\n", "headers": EDGE}, "form"),
        ({"content": PART, "headers": {"Content-Type": "multipart/form-data"}}, "the boundary that its Content-Type"),
        ({"content": photo(1), "headers": JSON}, "The JSON cannot be taken"),
        ({"content": "[]", "headers": JSON}, "The JSON cannot be taken"),
        ({"content": "{}", "headers": JSON}, "image: Field required"),
        ({"content": '{"image": 7}', "headers": JSON}, "image: "),
        ({"content": '{"image": "", "map": true}', "headers": JSON}, "map: Extra inputs are not permitted"),
        ({"content": '{"image": ""}', "headers": JSON}, "there is nothing in it"),
        ({"content": '{"image": "abc"}', "headers": JSON}, "not in base64"),
        ({"content": '{"image": "\u00e4bcd"}'.encode(), "headers": JSON}, "not in base64"),
        ({"content": '{"image": "data:image/png,abcd"}', "headers": JSON}, "data: URL is not in base64"),
        ({"content": '{"image": "AAAA"}', "headers": JSON}, "not a valid PNG"),
    ],
)
def test_what_is_sent_otherwise_is_refused_with_a_sentence(
    given: dict[str, Any], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with client_of(Coloured()) as client:
        answer = client.post("/v1/predict", **given)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    assert len(answer.json()["error"]) < 250
    assert len(capfd.readouterr().err.splitlines()) == 1  # the parser logs nothing of its own


def test_the_file_in_a_form_or_json_has_the_same_limit() -> None:
    content = bytes(3001)
    with client_of(Coloured(), Limits(bytes=3000)) as client:
        for way in ({"files": {"file": content}}, {"content": encoded(content), "headers": JSON}):
            answer = client.post("/v1/predict", **way)  # type: ignore[arg-type]
            assert answer.status_code == 413
            assert "more than 3000 bytes" in answer.json()["error"]
        for way in ({"files": {"file": bytes(20_000)}}, {"content": iter([b" " * 20_000]), "headers": JSON}):
            assert client.post("/v1/predict", **way).status_code == 413  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/model", "/v1/drift", "/openapi.json", "/health/"])
def test_head_is_get_without_a_body(path: str) -> None:
    with client_of(Coloured()) as client:
        name = {"X-Request-ID": "one"}
        head, get = client.head(path, headers=name), client.get(path, headers=name)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == get.headers
    with client_of(Coloured(), token=TOKEN) as client:
        assert client.head(path).status_code == (401 if path.startswith("/v1") else 200)


def test_head_ends_on_a_real_line() -> None:
    with listening(Limits()) as (host, port):
        line = http.client.HTTPConnection(host, port, timeout=10)
        for path in ("/ready", "/v1/model"):  # on one connection: a body would be taken for the next answer
            line.request("HEAD", path)
            answer = line.getresponse()
            assert (answer.status, answer.read()) == (200, b"")


PAGE = "https://line.example"
ASKED = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


def test_pages_of_other_places_are_let_in_by_name() -> None:
    known = {"Authorization": f"Bearer {TOKEN}", "Origin": PAGE}
    allowed = "access-control-allow-origin"
    with client_of(Coloured(), token=TOKEN) as client:  # off
        assert client.options("/v1/predict", headers=ASKED).status_code == 405
        assert allowed not in client.post("/v1/predict", content=photo(1), headers=known).headers
    with client_of(Coloured(), token=TOKEN, origins=[PAGE]) as client:
        answer = client.options("/v1/predict", headers=ASKED)
        assert (answer.status_code, answer.headers[allowed]) == (200, PAGE)
        for red, headers, status in (
            (1, known, 200),
            (13, known, 500),
            (1, {"Origin": PAGE}, 401),  # a page needs the token, too
        ):
            answer = client.post("/v1/predict", content=photo(red), headers=headers)
            assert (answer.status_code, answer.headers[allowed]) == (status, PAGE)
        assert (
            allowed not in client.post("/v1/predict", content=photo(1), headers=known | {"Origin": "http://x"}).headers
        )
        answer = client.options("/v1/predict", headers=ASKED | {"Origin": "http://x"})
        assert answer.status_code == 400
        assert "--cors_origin" in answer.json()["error"]
        assert allowed not in answer.headers


def test_it_is_asked_by_an_address_or_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Camera.plant")
    own = ["camera", "camera.plant", "Line.Example:8443", "localhost", "LOCALHOST.:80"]
    with client_of(Coloured(), names=["line.example"]) as client:
        for host in ["127.0.0.1", "192.168.0.7:8000", "[::1]", "[fe80::1]:8000", *own]:
            assert client.get("/v1/model", headers={"Host": host}).status_code == 200, host
        for host in ("plant", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "[evil]", "::1"):
            assert client.get("/v1/model", headers={"Host": host}).status_code == 421, host


def test_a_page_whose_name_leads_here_is_refused_whatever_it_asks(tmp_path: Path) -> None:
    """As a browser asks it, once the name that it has loaded the page of is said to be 127.0.0.1."""
    predictor, page = Coloured(), {"Host": "evil.example:8000"}
    with client_of(predictor, kept=KeptParts(tmp_path), origins=["*"]) as client:
        name = client.post("/v1/predict", content=photo(1)).json()["part"]
        said = {"says": "good", "who": "Eve"}
        for method, path in (
            *(("GET", route.path.format(name=name)) for route in client.app.routes if "GET" in route.methods),  # type: ignore[attr-defined]
            ("HEAD", "/v1/parts"),
            ("OPTIONS", "/v1/parts"),
            ("POST", "/v1/predict"),
            ("POST", "/v1/swap"),
            ("POST", f"/v1/parts/{name}/mark"),
            ("DELETE", f"/v1/parts/{name}/mark"),
            ("GET", "/nowhere"),
        ):
            answer = client.request(method, path, headers=page, json=said)
            assert (answer.status_code, "X-Request-ID" in answer.headers) == (421, True), (method, path)
        assert answer.json()["error"] == (
            "evil.example is no name of this server, but may be another site's, whose pages must not ask it: open it "
            "by its address, such as 127.0.0.1, or start it with --host_name evil.example."
        )
    assert predictor.batches == [1]
    assert KeptParts(tmp_path).marked() == []
    with client_of(predictor, token=TOKEN) as client:  # which the page does not know
        assert client.get("/v1/model", headers=page).status_code == 401
        assert client.get("/v1/model", headers=page | {"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_page_of_another_site_cannot_even_ask() -> None:
    """It could not read the answer, but the server would have judged its photo, or changed its model."""
    predictor = Coloured()
    with client_of(predictor, names=["line.example"], origins=["http://127.0.0.1:3000"]) as client:
        for place in (
            "https://evil.example",
            "http://127.0.0.1:9000",
            "http://localhost",
            "null",
            "http://127.0.0.1.x",
        ):
            for path in ("/v1/predict", "/v1/swap", "/v1/parts/1/mark"):
                answer = client.post(path, content=photo(1), headers={"Origin": place})
                assert (answer.status_code, place in answer.json()["error"]) == (403, True), (place, path)
        assert "--cors_origin" in answer.json()["error"]
        assert predictor.batches == []
        for place in ("http://127.0.0.1", "https://line.example", "http://127.0.0.1:3000"):
            assert client.post("/v1/predict", content=photo(1), headers={"Origin": place}).status_code == 200, place
    with client_of(predictor, origins=["*"]) as client:
        assert client.post("/v1/predict", content=photo(1), headers={"Origin": "null"}).status_code == 200


def test_who_names_no_host_is_no_page() -> None:
    with listening(Limits()) as place:
        for version, status in (("1.0", b"200"), ("1.1", b"400")):
            with socket.create_connection(place, timeout=30) as line:
                line.sendall(f"GET /health HTTP/{version}\r\n\r\n".encode())
                assert line.recv(100).split()[1] == status


@pytest.mark.parametrize("given", ["true", "True", "1", "yes", "on", "t", "y"])
def test_a_map_is_asked_for(given: str) -> None:
    with client_of(Coloured()) as client:
        assert "map" in client.post("/v1/predict", params={"map": given}, content=photo(1)).json()


@pytest.mark.parametrize(
    ("given", "status"), [("false", 200), ("0", 200), ("no", 200), ("off", 200), ("2", 422), ("", 422)]
)
def test_a_map_is_not_asked_for(given: str, status: int) -> None:
    with client_of(Coloured()) as client:
        answer = client.post("/v1/predict", params={"map": given}, content=photo(1))
    assert answer.status_code == status
    assert "map" not in answer.json()


def test_the_document_names_every_way() -> None:
    document = build_app(Coloured(), Limits()).openapi()
    sent = document["paths"]["/v1/predict"]["post"]
    content = sent["requestBody"]["content"]
    assert {"image/png", "application/octet-stream", "multipart/form-data", "application/json"} <= content.keys()
    assert content["multipart/form-data"]["schema"]["required"] == ["file"]
    assert content["application/json"]["schema"]["required"] == ["image"]
    assert "yes" in sent["parameters"][0]["description"]
    for path in ("/health", "/ready", "/v1/model", "/v1/drift"):
        assert document["paths"][path].keys() == {"get", "head"}
    every = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(every) == len(set(every))
