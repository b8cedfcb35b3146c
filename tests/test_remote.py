"""Photos behind URLs and in archives: the same layouts, figures and sentences as of folders, and no more reading."""

import contextlib
import json
import os
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
import trees
from conftest import TINY, rows_of, write_tiny_data
from torch.utils.data import DataLoader

from sivt_lightning.cli import main
from sivt_lightning.data.asked import predict_samples
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.dataset import ImageDataset, collate
from sivt_lightning.data.images import read_image
from sivt_lightning.data.kept import content_keys
from sivt_lightning.data.layouts import test_samples as samples_of_test
from sivt_lightning.data.layouts import train_samples
from sivt_lightning.data.remote import FIRST, RemotePath, _store
from sivt_lightning.data.samples import Sample
from sivt_lightning.data.survey import read_headers
from sivt_lightning.data.urls import common_folder, path_of
from sivt_lightning.errors import SIVTError

CONFIG = TINY.replace("test_resnet", "pixels").replace("[2, 4]", "[4]").replace("max_epochs: 2", "max_epochs: 1")
KINDS = ("memory", "zip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("local") / "parts", train=4, good=1, bad=2)


@pytest.fixture(scope="module")
def archive(folder: Path) -> Path:
    return zipped(folder, folder.with_name("parts.zip"))


def zipped(folder: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for inner in sorted(folder.rglob("*")):
            archive.write(inner, Path("photos") / inner.relative_to(folder))
    return file


@pytest.fixture
def bucket(folder: Path) -> Iterator[str]:
    """The photos in fsspec's memory."""
    store = fsspec.filesystem("memory")
    store.put(str(folder), "/bucket/parts", recursive=True)
    yield "memory://bucket/parts"
    store.rm("/bucket", recursive=True)


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, bucket: str, archive: Path) -> str:
    return bucket if request.param == "memory" else f"zip://photos/::{archive}"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | None]]:
    """(file, bytes that were asked for, None for all) of each request for content."""
    calls: list[tuple[str, int | None]] = []
    fetch = RemotePath.content

    def content(self: RemotePath, end: int | None = None) -> bytes:
        calls.append((str(self), end))
        return fetch(self, end)

    monkeypatch.setattr(RemotePath, "content", content)
    return calls


# --- what names mean


@pytest.mark.parametrize("text", ["photos", "lot:1/a", "a:b", r"C:\photos", "C:/photos", "C://photos", "/x/y:z", "~"])
def test_a_local_path_stays_a_plain_one(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stat", "scandir", "lstat"):
        monkeypatch.setattr(os, name, lambda *_, **__: pytest.fail("the disk was asked"))
    path = path_of(text)
    assert not isinstance(path, RemotePath)
    assert path == Path(text).expanduser()


def test_a_url_is_a_path_shown_as_the_url(archive: Path, tmp_path: Path) -> None:
    photo = path_of("memory://bucket/parts/") / "bolt" / "1.png"
    assert isinstance(photo, Path)
    assert str(photo) == f"{photo}" == "memory://bucket/parts/bolt/1.png"
    assert (photo.name, photo.suffix, photo.parent.name) == ("1.png", ".png", "bolt")
    assert photo.relative_to(path_of("memory://bucket")).as_posix() == "parts/bolt/1.png"
    assert path_of(str(photo)) == photo == pickle.loads(pickle.dumps(photo))  # noqa: S301
    assert photo != path_of("memory://bucket/parts/bolt/2.png")
    assert (photo / "../../2.png").resolve() == path_of("memory://bucket/parts/2.png")
    whole = path_of(str(archive))
    assert (str(whole), whole.name) == (str(archive), "parts")
    assert path_of(f"{archive}/photos/bolt") == path_of(str(whole / "photos/bolt")) == whole / "photos/bolt"
    behind = path_of("zip://photos::memory://bucket/parts.zip")
    assert str(behind / "1.png") == "zip://photos/1.png::memory://bucket/parts.zip"
    assert [path.as_posix() < (behind / "1.png.png").as_posix() for path in (behind / "1.png",)] == [True]
    assert path_of(f"zip://photos/::{archive}") == whole / "photos"
    assert path_of(f"zip://photos::file://{archive}") == whole / "photos"
    (tmp_path / "folder.zip").mkdir()
    assert not isinstance(path_of(str(tmp_path / "folder.zip")), RemotePath)
    with pytest.raises(TypeError, match="no local file"):
        os.stat(photo)  # noqa: PTH116
    assert common_folder(whole / "a/b", whole / "a/c", whole / "a") == whole / "a"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3://me:secret@bucket/photos", "take them out"),
        ("https://me:secret@host/photos", "take them out"),
        ("zip://photos::s3://me:secret@bucket/photos.zip", "take them out"),
        (
            "https://host/photos?signature=secret",
            "https://, but photos are read from folders, from ARCHIVE.zip, s3://",
        ),
        ("zip://photos.zip", "names no archive. Write it as zip://FOLDER::ARCHIVE.zip"),
        ("zip://a::zip://b::c.zip", "an archive in an archive"),
        ("s3://", "names no bucket"),
        ("s3://bucket", r"read through s3fs: pip install 'sivt-lightning\[s3\]' brings it"),
        ("gcs://bucket", r"read through gcsfs: pip install 'sivt-lightning\[gcs\]'"),
    ],
)
def test_a_url_that_cannot_be_taken_is_a_sentence(text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sivt_lightning.data.urls.find_spec", lambda name: None)
    for take in (path_of, lambda text: SIVTDataModule(root=text)):
        with pytest.raises(SIVTError, match=said) as raised:
            take(text)
        assert "secret" not in str(raised.value)


# --- reading


def test_layouts_masks_and_pixels_are_those_of_the_folder(url: str, folder: Path) -> None:
    for find in (train_samples, samples_of_test):
        local, remote = find(folder, None), find(path_of(url), None)
        base = path_of(url)
        assert remote.left_out == [sentence.replace(str(folder), str(base)) for sentence in local.left_out]
        assert [(s.path.relative_to(base).as_posix(), s.category, s.defect, s.layout) for s in remote.samples] == [
            (s.path.relative_to(folder).as_posix(), s.category, s.defect, s.layout) for s in local.samples
        ]
        for one, other in zip(ImageDataset(local.samples, 32), ImageDataset(remote.samples, 32), strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.mask, other.mask)
            assert one.error == other.error == ""
    asked = predict_samples([path_of(url) / "across", path_of(url) / "down/test"])
    assert (asked.base, len(asked.samples)) == (path_of(url), 12)


def test_a_list_may_lie_anywhere_and_name_photos_anywhere(
    url: str, folder: Path, archive: Path, tmp_path: Path
) -> None:
    rows = [f"{url if '::' not in url else 'memory://bucket/parts'}/across/train/good/{i:03}.png" for i in range(3)]
    file = tmp_path / "list.csv"
    file.write_text("path,label\n" + "".join(f"{row},good\n" for row in rows))
    data = SIVTDataModule(root=str(file), num_workers=0)
    data.setup("fit")
    assert [str(sample.path) for sample in sorted(data.train_set.samples + data.val_set.samples, key=str)] == rows
    assert [sample.category for sample in data.train_set.samples] == ["list"] * 2
    file.write_text(f"path,label\n{rows[0]},good\n{folder}/across/train/good/001.png,good\n")
    assert len(train_samples(file, None).samples) == 2
    file.write_text(f"path\n{archive}\n")
    with pytest.raises(SIVTError, match=f"line 2: {archive} is no image"):
        train_samples(file, None)
    file.write_text(f"path,label\n{rows[0]},good\n{folder}/across/train/good/001.png,good\n")
    with pytest.raises(SIVTError, match="lie in no common folder"):
        predict_samples([file])
    fsspec.filesystem("memory").pipe_file(
        "/bucket/parts/lists/list.csv", b"path,label\n../across/train/good/000.png,good\nnone.png,good\n"
    )
    with pytest.raises(SIVTError, match=r"list.csv, line 3: memory://bucket/parts/lists/none.png is not there"):
        train_samples(path_of("memory://bucket/parts/lists/list.csv"), None)


def test_headers_are_looked_at_without_fetching_photos(bucket: str, fetched: list[Any]) -> None:
    import numpy as np
    from PIL import Image

    large = path_of(bucket) / "large.png"
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    with fsspec.filesystem("memory").open("/bucket/parts/large.png", "wb") as file:
        Image.fromarray(noise).save(file, "PNG")
    assert large.stat().st_size > FIRST
    assert read_headers([large]) == [(400, 300, False)]
    assert fetched == [(str(large), FIRST)]
    assert np.array_equal(np.asarray(read_image(large).image), noise)
    assert fetched[1:] == [(str(large), FIRST), (str(large), None)]


def test_other_processes_read_too(url: str, archive: Path) -> None:
    dataset = ImageDataset(train_samples(path_of(url), None).samples, 32)
    alone = torch.cat([item.images for item in dataset])
    batches = DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=collate, multiprocessing_context="fork")
    assert torch.equal(torch.cat([batch.images for batch in batches]), alone)
    _store.cache_clear()  # as a process that is started anew has none
    sent = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert torch.equal(torch.cat([item.images for item in sent]), alone)


def test_a_feature_is_known_by_what_the_store_says_and_not_fetched(
    bucket: str, archive: Path, fetched: list[Any]
) -> None:
    store = fsspec.filesystem("memory")
    photo = path_of(bucket) / "across/train/good/000.png"
    (before,) = content_keys([photo])
    fetched.clear()
    assert content_keys([path_of(str(photo))]) == [before]
    assert fetched == []
    store.pipe_file("/bucket/parts/across/train/good/000.png", photo.read_bytes() + b"x")
    assert content_keys([photo]) != [before]
    inside = path_of(str(archive)) / "photos/across/train/good"
    assert len(set(content_keys([inside / "000.png", inside / "001.png"]))) == 2


def test_an_archive_that_was_replaced_is_opened_anew(folder: Path, tmp_path: Path) -> None:
    file = zipped(folder / "across", tmp_path / "photos.zip")
    assert (path_of(str(file)) / "photos/train").is_dir()
    zipped(folder / "across/train", file)
    assert not (path_of(str(file)) / "photos/train").exists()


# --- the commands


BEST = "runs/tiny/version_0/checkpoints/best.ckpt"
# They take most of the time.
FEW_PICTURES = {
    "fit": ["--synthetic.per_image", "0", "--panel.every_n_epochs", "0"],
    "test": ["--eval.curves", "false", "--eval.gallery", "false", "--eval.report", "false"],
    "predict": ["--writer.overlays", "false", "--writer.masks", "false"],
}


def run(root: str, place: Path) -> tuple[dict[str, Any], Any, list[dict[str, str]]]:
    """(weights, metrics, predictions) of a training, a test and a prediction."""
    place.mkdir()
    with contextlib.chdir(place):
        Path("tiny.yaml").write_text(CONFIG.replace("ROOT", root))
        assert main(["fit", "--config", "tiny.yaml", *FEW_PICTURES["fit"]]) == 0
        assert main(["test", "--ckpt_path", BEST, *FEW_PICTURES["test"]]) == 0
        asked = f"{root}/across/test"
        assert main(["predict", "--ckpt_path", BEST, "--data.predict_path", asked, *FEW_PICTURES["predict"]]) == 0
        weights = torch.load(BEST, weights_only=True)
        assert weights["datamodule_hyper_parameters"]["root"] == root
        metrics = json.loads(Path("runs/tiny/version_0/test/metrics.json").read_text())
        (table,) = Path("predictions").glob("*/predictions.csv")
        return weights["state_dict"], metrics, rows_of(table)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs") / "local"


@pytest.fixture(scope="module")
def local(folder: Path, place: Path) -> Any:
    return run(str(folder), place)


def test_the_figures_are_those_of_the_folder(
    url: str, local: Any, tmp_path: Path, fetched: list[tuple[str, int | None]], no_network: None
) -> None:
    root = str(path_of(url))
    weights, metrics, rows = run(root, tmp_path / "remote")
    assert all(torch.equal(weights[name], values) for name, values in local[0].items())
    assert metrics["categories"] == local[1]["categories"]
    assert metrics["pooled"] == local[1]["pooled"]
    assert rows == local[2]
    assert fetched


def test_after_the_first_epoch_no_photo_is_fetched(
    bucket: str, tmp_path: Path, fetched: list[Any], watched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sivt_lightning.training.module import SIVT

    at_epoch: list[int] = []
    begin = SIVT.on_train_epoch_start if hasattr(SIVT, "on_train_epoch_start") else lambda self: None
    monkeypatch.setattr(SIVT, "on_train_epoch_start", lambda self: (at_epoch.append(len(fetched)), begin(self))[1])
    monkeypatch.chdir(tmp_path)
    names = [f"{bucket}/{product}/train/good/{i:03}.png,{product}" for product in ("across", "down") for i in range(4)]
    Path("list.csv").write_text("\n".join(["path,category,split", *(f"{name},train" for name in names)]))
    Path("tiny.yaml").write_text(CONFIG.replace("ROOT", "list.csv"))
    options = ["--trainer.max_epochs", "3", "--data.cache", "disk"]
    assert main(["fit", "--config", "tiny.yaml", *options, *FEW_PICTURES["fit"]]) == 0
    assert len(at_epoch) == 3
    assert at_epoch[1] == at_epoch[2], "the third epoch may fetch nothing that the second has not"


# --- what goes wrong


class Gone(Exception):
    """Of a store's own package."""


@pytest.fixture
def troubled(bucket: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """By the end of a name: what the store raises when it is asked for that."""
    faults: dict[str, Exception] = {}
    store = type(fsspec.filesystem("memory"))

    def failing(name: str) -> None:
        work = getattr(store, name)

        def asked(self: Any, path: str, *rest: Any, **settings: Any) -> Any:
            for end, fault in faults.items():
                if str(path).endswith(end):
                    raise fault
            return work(self, path, *rest, **settings)

        monkeypatch.setattr(store, name, asked)

    for name in ("ls", "info", "cat_file"):
        failing(name)
    return faults


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (PermissionError("Access Denied"), "permission is denied. Give these credentials, or this user, the right"),
        (ConnectionResetError(104, "Connection reset"), "the store gives no answer"),
        (Gone("Could not connect\nto it"), r"the store gives no answer \(Could not connect\). Check the connection"),
        (type("NoCredentialsError", (Exception,), {})(), "there are no credentials for it. Give them in the environ"),
    ],
)
def test_a_store_that_refuses_is_a_sentence_with_the_url(
    fault: Exception, said: str, bucket: str, troubled: dict[str, Exception]
) -> None:
    troubled["parts"] = fault
    for work in (lambda: train_samples(path_of(bucket), None), lambda: predict_samples([path_of(bucket)])):
        with pytest.raises(SIVTError, match=f"{bucket} cannot be read: {said}"):
            work()
    troubled["001.png"] = fault
    item = ImageDataset([Sample(path_of(bucket) / "down/test/square/001.png", "down")], 32)[0]
    assert re.match(f"{bucket}/down/test/square/001.png cannot be read: {said}", item.error)
    with pytest.raises(SIVTError, match=said):
        content_keys([path_of(bucket) / "001.png"])


def test_what_is_not_there_is_a_sentence(url: str, archive: Path, tmp_path: Path) -> None:
    lost = path_of(f"{path_of(url)}/lost")
    for work in (lambda: train_samples(lost, None), lambda: predict_samples([lost])):
        with pytest.raises(SIVTError, match=f"{lost} does not exist. Set data"):
            work()
    with pytest.raises(SIVTError, match=f"{lost}.png cannot be read: it does not exist. Check the path."):
        read_image(lost.with_name("lost.png"))
    with pytest.raises(SIVTError, match="photos are only read there"):
        (lost / "a.txt").write_text("")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(SIVTError, match=f"{broken} cannot be read: it is no ZIP archive, or is damaged. Replace"):
        train_samples(path_of(str(broken)), None)


def test_a_prediction_marks_what_it_could_not_read_and_goes_on(
    bucket: str,
    troubled: dict[str, Exception],
    local: Any,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    troubled["square/001.png"] = ConnectionResetError(104, "Connection reset")
    asked = ["--data.predict_path", f"{bucket}/down/test", "--data.num_workers", "0"]
    assert main(["predict", "--ckpt_path", str(place / BEST), *asked, *FEW_PICTURES["predict"]]) == 3
    errors = {row["path"]: row["error"] for row in rows_of(Path("predictions/test/predictions.csv"))}
    assert [path for path, error in errors.items() if not error] == ["good/000.png", "square/000.png"]
    assert errors["square/001.png"].startswith(f"{bucket}/down/test/square/001.png cannot be read: the store gives no")


# --- how often a disk or a store is asked


@pytest.mark.parametrize("count", [3, 30])
def test_a_folder_is_listed_once_and_each_photo_is_not_asked_for(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.photos(tmp_path / "photos/bolt", *(f"{number}.png" for number in range(count)))
    asked: Counter[str] = Counter()

    def counted(name: str) -> None:
        work = getattr(os, name)

        def call(*given: Any, **settings: Any) -> Any:
            asked[name] += 1
            return work(*given, **settings)

        monkeypatch.setattr(os, name, call)

    for name in ("scandir", "stat"):
        counted(name)
    assert len(train_samples(tmp_path / "photos", None).samples) == count
    assert asked["scandir"] == 2, "photos and bolt"
    assert asked["stat"] <= 11, "whatever the number of photos"


def test_a_folder_that_changes_is_seen_as_it_is(tmp_path: Path) -> None:
    trees.photos(tmp_path / "bolt", "1.png", "2.png")
    assert len(train_samples(tmp_path, None).samples) == 2
    trees.photos(tmp_path / "bolt", "3.png")
    assert len(train_samples(tmp_path, None).samples) == 3
