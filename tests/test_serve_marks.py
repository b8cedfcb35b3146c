"""The circle: parts that the server has judged are kept, people mark them, and the model is calibrated by that."""

import io
import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from coloured import PRODUCTS, TOKEN, Coloured, client_of, listening, photo, served
from conftest import rows_of
from fastapi.testclient import TestClient
from PIL import Image

from sivt_lightning import Predictor, SIVTError
from sivt_lightning.cli import main
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.folders import PARTS, contents
from sivt_lightning.inference.about import read_about
from sivt_lightning.inference.good_photos import GoodPhotos
from sivt_lightning.serve.keeper import map_picture, thumbnail
from sivt_lightning.serve.service import Limits
from sivt_lightning.state.kept_parts import KeptParts
from sivt_lightning.state.reading import marked_parts

ANA = {"says": "good", "who": "Ana"}


def keeping(folder: Path, limits: Limits = Limits(), token: str | None = None) -> TestClient:  # noqa: B008
    return client_of(Coloured(known=PRODUCTS), limits, token, kept=KeptParts(folder))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with keeping(tmp_path) as client:
        yield client


def until(reached: Callable[[], Any]) -> Any:
    """What it gives, once that is something."""
    for _ in range(1000):
        if found := reached():
            return found
        time.sleep(0.01)
    raise AssertionError("never")


def ask(client: Any, red: int, green: int = 0, name: str = "part.png") -> str:
    answer = client.post("/v1/predict", files={"file": (name, photo(red, green=green))})
    return str(answer.raise_for_status().json()["part"])


def parts(client: Any, count: int) -> list[dict[str, Any]]:
    """Once there are so many."""
    found: Callable[[], Any] = lambda: client.get("/v1/parts").raise_for_status().json()["parts"]  # noqa: E731
    return until(lambda: len(found()) == count and found())  # type: ignore[no-any-return]


def test_what_was_judged_is_told_newest_first_with_photo_map_and_counts(client: TestClient) -> None:
    names = [ask(client, red, green) for red, green in ((50, 0), (97, 200), (50, 100))]
    found = parts(client, 3)
    assert [one["id"] for one in found] == names[::-1]
    assert [(one["verdict"], one["product"]) for one in found[::-1]] == [
        ("normal", "bolt"),
        ("anomalous", "nut"),
        ("unknown", None),
    ]
    assert found[1] == found[1] | {"score": 97.0, "name": "part.png", "model": "coloured", "mark": None}
    assert found[1]["threshold"] == pytest.approx(95, rel=1e-4)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", found[1]["time"])
    told = client.get("/v1/parts", params={"last": 1}).json()
    assert (len(told["parts"]), told["promised"], told["kept"], told["not_kept"]) == (1, 0.05, True, 0)
    assert {(one["product"], one["verdict"]): one["parts"] for one in told["counts"]} == {
        ("bolt", "normal"): 1,
        ("nut", "anomalous"): 1,
        (None, "unknown"): 1,
    }
    assert {one["hour"] for one in told["counts"]} <= {one["time"][:13] for one in found}
    answer = client.get(f"/v1/parts/{names[0]}/photo")
    assert answer.content == photo(50)
    assert (answer.headers["Content-Type"], answer.headers["X-Content-Type-Options"]) == ("image/png", "nosniff")
    levels = np.asarray(Image.open(io.BytesIO(client.get(f"/v1/parts/{names[0]}/map").content)))
    assert (levels.dtype, levels.shape, set(levels.flat)) == (np.uint8, (8, 8), {round(255 * 50 / (2 * 95))})
    assert client.head(f"/v1/parts/{names[0]}/photo").status_code == 200


def test_a_thumbnail_is_the_photo_as_the_network_saw_it_or_else_the_photo(client: TestClient, tmp_path: Path) -> None:
    place = f"/v1/parts/{ask(client, 200)}/thumbnail"
    parts(client, 1)
    answer = client.get(place)
    assert (answer.headers["Content-Type"], answer.headers["X-Content-Type-Options"]) == ("image/jpeg", "nosniff")
    small = Image.open(io.BytesIO(answer.content))
    assert small.size == (8, 7), "of 12 x 10, no larger than what the network saw"
    np.testing.assert_allclose(np.asarray(small)[3, 3], (200, 0, 0), atol=4)
    for file in (tmp_path / "thumbnails").iterdir():  # as a version before them would have kept it
        file.unlink()
    answer = client.get(place)
    assert (answer.content, answer.headers["Content-Type"]) == (photo(200), "image/png")
    for file in (tmp_path / "photos").iterdir():
        file.unlink()
    assert client.get(place).status_code == 404


@pytest.mark.parametrize(
    ("size", "expected"), [((3000, 1500), (256, 128)), ((9, 5000), (1, 256)), ((100, 50), (100, 50))]
)
def test_a_thumbnail_fits_a_list(size: tuple[int, int], expected: tuple[int, int]) -> None:
    seen = np.zeros((3, 384, 384), np.uint8)
    seen[0, :, 192:] = 255  # red on the right
    small = Image.open(io.BytesIO(thumbnail(seen, size)))
    assert small.size == expected
    if expected[0] > 1:
        ends = np.asarray(small)[5, [5, -5]]
        np.testing.assert_allclose(ends, [(0, 0, 0), (255, 0, 0)], atol=4)


def test_a_map_is_held_against_twice_the_pixel_threshold_and_fits_a_screen() -> None:
    levels = Image.open(io.BytesIO(map_picture(np.float32([[0, 1, 2, 9]]), 1.0)))
    assert np.asarray(levels)[0].tolist() == [0, 128, 255, 255]
    assert Image.open(io.BytesIO(map_picture(np.ones((600, 1200), np.float32), 0.0))).size == (512, 256)


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "TIFF", "WEBP"])
def test_photos_of_each_format_come_back_as_they_were(kind: str, client: TestClient) -> None:
    content = photo(50, kind=kind)
    name = client.post("/v1/predict", content=content).json()["part"]
    assert parts(client, 1)[0]["name"] is None
    answer = client.get(f"/v1/parts/{name}/photo")
    assert (answer.content, answer.headers["Content-Type"]) == (content, f"image/{kind.lower()}")


def test_a_mark_is_made_changed_and_undone(client: TestClient, tmp_path: Path) -> None:
    one, other = ask(client, 97), ask(client, 50)
    parts(client, 2)
    mark = client.post(f"/v1/parts/{one}/mark", json=ANA).json()["mark"]
    assert (mark["says"], mark["who"]) == ("good", "Ana")
    assert client.post(f"/v1/parts/{other}/mark", json={"says": "defect", "who": "Ben"}).status_code == 200
    answer = client.get("/v1/marks")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="marks.csv"'
    (tmp_path / "marks.csv").write_bytes(answer.content)
    paths = [str(tmp_path / "photos" / f"{name}.png") for name in (one, other)]
    assert [list(row.values()) for row in rows_of(tmp_path / "marks.csv")] == [
        [paths[0], "bolt", "good"],
        [paths[1], "bolt", "defect"],
    ]
    undone = client.delete(f"/v1/parts/{one}/mark", params={"who": "Cem"}).json()
    assert (undone["id"], undone["mark"]) == (one, None)
    assert client.get("/v1/parts").json()["parts"][1]["mark"] is None
    assert len(client.get("/v1/marks").text.splitlines()) == 2


def test_what_is_not_there_or_not_said_rightly_is_a_sentence(client: TestClient) -> None:
    one = ask(client, 97)
    parts(client, 1)
    for name in ("0" * 32, "..%2F..%2Fparts.sqlite", "%00", one.upper() + "X"):
        for answer in (
            client.get(f"/v1/parts/{name}/photo"),
            client.get(f"/v1/parts/{name}/map"),
            client.get(f"/v1/parts/{name}/thumbnail"),
            client.post(f"/v1/parts/{name}/mark", json=ANA),
            client.delete(f"/v1/parts/{name}/mark", params={"who": "Ana"}),
        ):
            assert answer.status_code == 404
            assert answer.json()["error"]
    assert "only the last 100 are, and those that have a mark" in client.get("/v1/parts/x/photo").json()["error"]
    for said in (
        {"says": "fine", "who": "Ana"},
        {"says": "good"},
        {"says": "good", "who": ""},
        ANA | {"who": "a" * 101},
    ):
        assert client.post(f"/v1/parts/{one}/mark", json=said).status_code == 422
    plain = {"Content-Type": "text/plain"}  # as any web page may send it
    assert client.post(f"/v1/parts/{one}/mark", content=json.dumps(ANA), headers=plain).status_code == 422
    assert client.get("/v1/parts", params={"last": 0}).status_code == 422
    assert client.get("/v1/parts").json()["parts"][0]["mark"] is None


def named(client: TestClient, name: str) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        return [one for one in client.get("/v1/parts").json()["parts"] if one["name"] == name]

    return until(found)[0]  # type: ignore[no-any-return]


def test_a_name_is_data(client: TestClient, tmp_path: Path) -> None:
    for name in ("../../../etc/passwd", "<script>alert(1)</script>.png", "=1+1|cmd.png", "Gr\u00f6\u00dfe \u202e.png"):
        ask(client, 50, name=name)
        assert (tmp_path / "photos" / f"{named(client, name)['id']}.png").is_file()
    ask(client, 50, name="a" * 2000)
    assert named(client, "a" * 300)


def test_all_of_it_is_behind_the_token(tmp_path: Path) -> None:
    with keeping(tmp_path, token=TOKEN) as client:
        for method, path in (
            ("GET", "/v1/parts"),
            ("GET", "/v1/marks"),
            ("GET", "/v1/parts/x/photo"),
            ("GET", "/v1/parts/x/map"),
            ("GET", "/v1/parts/x/thumbnail"),
            ("POST", "/v1/parts/x/mark"),
            ("DELETE", "/v1/parts/x/mark"),
        ):
            assert client.request(method, path).status_code == 401, path


def test_without_a_folder_nothing_is_kept() -> None:
    with client_of(Coloured(known=PRODUCTS)) as client:
        assert "part" not in client.post("/v1/predict", content=photo(50)).json()
        told = client.get("/v1/parts").json()
        assert told == {"parts": [], "counts": [], "promised": 0.05, "kept": False, "not_kept": 0}
        assert client.get("/v1/marks").status_code == 404
        answer = client.post(f"/v1/parts/{'0' * 32}/mark", json=ANA)
        assert answer.json() == {"error": "This server keeps no parts: start it with --state FOLDER."}


def not_kept(client: TestClient) -> float:
    text = client.get("/metrics").text
    found = re.search(r"^sivt_parts_not_kept (.*)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_a_full_disk_fails_nobody_and_is_told_once(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        for _ in range(3):
            ask(client, 50)
        until(lambda: client.get("/v1/parts").json()["not_kept"] == 3)
    assert not_kept(client) == 3
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    [said] = [line["message"] for line in lines if "message" in line]
    assert re.match(r"A part is not kept: Cannot write into .*: No space left on device\.", said)
    ask(client, 50)  # somebody has made room
    assert len(parts(client, 1)) == 1
    assert [one["parts"] for one in client.get("/v1/parts").json()["counts"]] == [4], "all are counted"


def test_a_database_in_trouble_refuses_marks_and_no_photo(client: TestClient) -> None:
    one = ask(client, 97)
    parts(client, 1)
    client.app.state.service.keeper.kept.database.execute("DROP TABLE marks")  # type: ignore[attr-defined]
    answer = client.post(f"/v1/parts/{one}/mark", json=ANA)
    assert answer.status_code == 503
    assert "parts.sqlite cannot be used: no such table: marks" in answer.json()["error"]
    assert client.post("/v1/predict", content=photo(50)).status_code == 200
    assert client.get("/v1/parts").json()["parts"][0]["mark"] is None


def test_what_there_is_no_room_for_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free, add = threading.Event(), KeptParts.add

    def slow(*given: Any) -> None:
        assert free.wait(30)
        add(*given)

    monkeypatch.setattr(KeptParts, "add", slow)
    with keeping(tmp_path, Limits(bytes=600)) as client:  # two of the largest files may wait, each with its map
        answers = [client.post("/v1/predict", content=photo(50)).json() for _ in range(5)]
        size = len(photo(50)) + 8 * 8 * (4 + 3)
        assert ["part" in answer for answer in answers] == [(number + 1) * size <= 1200 for number in range(5)]
        free.set()
        lost = sum("part" not in answer for answer in answers)
        assert until(lambda: client.get("/v1/parts").json()["not_kept"]) == lost > 0
        parts(client, 5 - lost)
        until(lambda: [one["parts"] for one in client.get("/v1/parts").json()["counts"]] == [5])
    with keeping(tmp_path / "small", Limits(bytes=len(photo(50)))) as client:
        ask(client, 50)  # however large its map is beside it
        parts(client, 1)


def test_what_waits_when_the_server_ends_is_written(tmp_path: Path) -> None:
    with keeping(tmp_path) as client:
        names = [ask(client, red) for red in range(20, 60)]
    assert [one.id for one in KeptParts(tmp_path).parts(100)] == names[::-1]


def test_a_photo_is_sent_at_once_over_a_real_connection(tmp_path: Path) -> None:
    """Not only after the time that an upload is waited for."""
    with listening(Limits(linger=60.0), kept=KeptParts(tmp_path)) as (host, port), httpx.Client() as client:
        client.base_url = f"http://{host}:{port}"
        name = ask(client, 50)
        parts(client, 1)
        assert client.get(f"/v1/parts/{name}/photo", timeout=30).content == photo(50)
        assert client.get(f"/v1/parts/{name}/map", timeout=30).status_code == 200


def test_no_mark_that_was_answered_is_lost_by_a_kill(checkpoint: Path, tiny_data: Path, tmp_path: Path) -> None:
    process, (host, port) = served(checkpoint, None, "--state", str(tmp_path / "state"))
    photos = sorted(tiny_data.glob("across/test/*/*.png"))
    answered: dict[str, str] = {}
    with httpx.Client(base_url=f"http://{host}:{port}") as client:
        for path in photos:
            client.post("/v1/predict", content=path.read_bytes()).raise_for_status()
        names = [one["id"] for one in parts(client, len(photos))]

        def say() -> None:
            for turn in range(100_000):
                name = names[turn % len(names)]
                who = f"Ana {turn}"
                try:
                    client.post(f"/v1/parts/{name}/mark", json=ANA | {"who": who}).raise_for_status()
                except httpx.HTTPError:
                    return
                answered[name] = who

        thread = threading.Thread(target=say)
        thread.start()
        until(lambda: len(answered) == len(names))
        os.killpg(process.pid, signal.SIGKILL)
        thread.join()
    process.wait()
    found = {one.id: one.mark.who for one in marked_parts(tmp_path / "state") if one.mark}
    for name, who in answered.items():
        assert int(found[name].split()[1]) >= int(who.split()[1])  # the last one may be written and not answered
    assert len(KeptParts(tmp_path / "state").parts(100)) == len(photos)


def test_the_folder_lies_beside_the_model_and_two_servers_share_it(checkpoint: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.ckpt"
    model.symlink_to(checkpoint)
    both = [served(model), served(model)]
    for _, (host, port) in both:
        httpx.post(f"http://{host}:{port}/v1/predict", content=photo(50)).raise_for_status()
    host, port = both[0][1]
    with httpx.Client(base_url=f"http://{host}:{port}") as client:
        one, _ = parts(client, 2)
        assert client.post(f"/v1/parts/{one['id']}/mark", json=ANA).status_code == 200
    for process, _ in both:
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait().returncode == 0
    assert [part.id for part in marked_parts(tmp_path / "m-state")] == [one["id"]]


def test_a_folder_that_cannot_be_is_said_at_the_start(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / PARTS).write_text("something else, which is long enough to be no empty database " * 9)
    assert main(["serve", "--model", str(checkpoint), "--port", "0", "--state", str(state)]) == 1
    error = capsys.readouterr().err
    assert "parts.sqlite is damaged (file is not a database). Move it away" in error
    model = tmp_path / "m.ckpt"
    model.symlink_to(checkpoint)
    (tmp_path / "m-state").touch()  # where a folder would be made that nobody has asked for
    process, (host, port) = served(model)
    assert httpx.get(f"http://{host}:{port}/v1/parts").json()["kept"] is False
    os.killpg(process.pid, signal.SIGTERM)
    done = process.wait()
    assert done.returncode == 0
    assert "No parts are kept. Cannot write into" in json.loads(done.stderr.splitlines()[0])["message"]


@pytest.fixture(scope="module")
def circle(checkpoint: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server's folder: of one product, photos under another lamp are marked good, those of squares as defects."""
    predictor = Predictor(checkpoint, "cpu", category="across", unknown=False)
    folder = tmp_path_factory.mktemp("circle") / "state"
    with client_of(predictor, kept=KeptParts(folder)) as client:

        def judge(content: bytes, says: str) -> None:
            name = client.post("/v1/predict", content=content).json()["part"]
            until(lambda: client.get(f"/v1/parts/{name}/map").status_code == 200)
            client.post(f"/v1/parts/{name}/mark", json={"says": says, "who": "Ana"}).raise_for_status()

        for path in sorted((tiny_data / "across/test/good").iterdir()):
            brighter = np.asarray(Image.open(path)).astype(float) * 1.3
            file = io.BytesIO()
            Image.fromarray(brighter.clip(0, 255).astype(np.uint8)).save(file, "PNG")
            judge(file.getvalue(), "good")
        for path in sorted((tiny_data / "across/test/square").iterdir()):
            judge(path.read_bytes(), "defect")
    return folder


def test_a_model_learns_from_the_marks(
    circle: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new.ckpt"
    command = ["calibrate", "--ckpt_path", str(checkpoint), "--good", str(circle), "--output", str(target)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "with 4 good photos of 1 products, and 9 that it was trained on" in said
    sentence = re.search(
        r"^3 false alarms confirmed good: threshold of across (\S+) to (\S+); recall on your 3 confirmed defects "
        r"(?:stays|goes from \d to) \d of 3\.$",
        said,
        re.MULTILINE,
    )
    assert sentence is not None, said
    was, new = read_about(str(checkpoint)).calibration, read_about(str(target)).calibration
    assert was is not None
    assert new is not None
    for text, calibration in zip(sentence.groups(), (was, new), strict=True):
        assert float(text) == pytest.approx(calibration.products["across"].score.threshold(0.05), rel=5e-3)
    assert float(sentence[2]) > float(sentence[1])
    assert new.products["down"] == was.products["down"]
    assert f"Next:\n  sivt serve --model {target} --state {circle}" in said
    assert "Of 3 parts marked good 3 had been called anomalous" in said
    assert main([*command, "--overwrite", "--ckpt_path", str(target), "--output", str(tmp_path / "again.ckpt")]) == 0
    again = read_about(str(tmp_path / "again.ckpt")).calibration
    assert again == new, "marks do not count twice"
    photos = GoodPhotos.again(read_about(str(target)))  # as an export of it is calibrated with
    assert Counter(sample.category for sample in photos.held_out) == {"across": 4, "down": 1}
    kept = KeptParts(circle)
    last = kept.marked()[0].id
    kept.mark(last, None, "Ben")
    with pytest.raises(SIVTError, match="no longer the same: calibrate it again"):
        GoodPhotos.again(read_about(str(target)))
    kept.mark(last, "good", "Ben")
    kept.close()


def test_where_the_training_is_not_at_hand_its_numbers_count(
    circle: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(*_: object) -> None:
        raise SIVTError("no photos")

    monkeypatch.setattr(GoodPhotos, "of_training", gone)
    target = tmp_path / "new.ckpt"
    assert main(["calibrate", "--ckpt_path", str(checkpoint), "--good", str(circle), "--output", str(target)]) == 0
    assert "with 3 marked photos and the numbers of 1 earlier ones" in capsys.readouterr().out
    was, new = read_about(str(checkpoint)).calibration, read_about(str(target)).calibration
    assert was is not None
    assert new is not None
    assert new.products["across"].score.held_out == 4
    assert new.products["across"].score.sample()[0] == pytest.approx(was.products["across"].score.sample()[0])
    assert new.recogniser == was.recogniser
    assert new.products["down"] == was.products["down"]
    assert main(["calibrate", "--ckpt_path", str(target), "--good", str(circle)]) == 1
    assert "would count twice" in capsys.readouterr().err


def test_what_was_marked_becomes_a_training(
    circle: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "list", str(tiny_data), "--marked", str(circle), "--output", "all.csv"]) == 0
    assert main(["data", "list", str(tiny_data), "--output", "before.csv"]) == 0
    assert main(["data", "list", str(circle), "--output", "marks.csv"]) == 0
    assert "Wrote marks.csv: 6 photos of 1 products" in capsys.readouterr().out
    new = [row for row in rows_of(Path("all.csv")) if row not in rows_of(Path("before.csv"))]
    marks = rows_of(Path("marks.csv"))
    assert [(row["category"], row["split"], row["label"]) for row in marks] == [
        *[("across", "train", "good")] * 3,
        *[("across", "test", "defect")] * 3,
    ]
    assert new == marks[:3]
    data = SIVTDataModule(str(tmp_path / "all.csv"), image_size=32)
    data.setup("fit")
    assert len(data.train_photos) + len(data.val_photos) == 23
    KeptParts(tmp_path / "empty").close()
    for command in (["data", "list", "empty"], ["data", "list", str(tiny_data), "--marked", "empty", "--overwrite"]):
        assert main([*command, "--output", "all.csv", "--overwrite"]) == 1
        assert "empty has no photo that is marked" in capsys.readouterr().err


def test_what_cannot_be_learned_from_is_a_sentence(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["calibrate", "--ckpt_path", str(checkpoint), "--output", str(tmp_path / "x.ckpt"), "--good"]
    with keeping(tmp_path / "state") as client:
        one = ask(client, 97)
        parts(client, 1)
        client.post(f"/v1/parts/{one}/mark", json={"says": "defect", "who": "Ana"})
    assert main([*command, str(tmp_path / "state")]) == 1
    assert "has no photos that are marked good. Mark false alarms" in capsys.readouterr().err
    (tmp_path / "state" / PARTS).write_bytes(b"x" * 9000)
    assert main([*command, str(tmp_path / "state")]) == 1
    assert "parts.sqlite is damaged" in capsys.readouterr().err


def test_its_pictures_are_not_taken_for_a_folder_of_photos(
    tiny_config: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    with keeping(state) as client:
        ask(client, 97)
        parts(client, 1)
    for command, remedy in (
        (["fit", "--config", str(tiny_config), "--data.root", str(state)], "`sivt data list"),
        (["data", "check", str(state)], "`sivt data list"),
        (["test", "--ckpt_path", str(checkpoint), "--data.root", str(state)], "`sivt data list"),
        (["predict", "--ckpt_path", str(checkpoint), "--data.predict_path", str(state)], f"to {state / 'photos'}."),
    ):
        assert main(command) == 1
        assert remedy in (said := capsys.readouterr().err)
        assert "is what `sivt serve` keeps of the parts that it judged" in said
    found = contents(tmp_path)  # of a folder above it
    assert ([path.parent.name for path in found.photos], found.results) == (["photos"], 2)
