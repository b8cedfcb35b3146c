"""Features that are kept: computed once, found again, and equal to what they stand for within their precision."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import rows_of, write_tiny_data

from sivt_lightning.cli import main
from sivt_lightning.data import dataset
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.errors import SIVTError
from sivt_lightning.features import store as stores
from sivt_lightning.features.store import DiskStore, MemoryStore, make_room
from sivt_lightning.model.backbone import Backbone

SHAPE = (2, 4, 4)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def photos(folder: Path, count: int = 3) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 50)
    return paths


def filled(tmp_path: Path) -> tuple[DiskStore, list[Path], torch.Tensor]:
    paths, maps = photos(tmp_path / "photos"), torch.randn(3, *SHAPE).half()
    (tmp_path / "kept").mkdir()
    store = DiskStore(paths, tmp_path / "kept", SHAPE, torch.float16)
    for position, features in enumerate(maps):
        store.put(position, features)
    return store, paths, maps


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_what_was_put_is_found(kind: str, tmp_path: Path) -> None:
    paths = photos(tmp_path)
    memory = MemoryStore(3, SHAPE, torch.float16)
    store = memory if kind == "memory" else DiskStore(paths, tmp_path, SHAPE, torch.float16)
    maps = torch.randn(3, *SHAPE)
    assert store.missing(range(3)) == [0, 1, 2]
    for position in (2, 0):
        store.put(position, maps[position])
    assert store.missing(range(3)) == [1]
    torch.testing.assert_close(store.get(2), maps[2].half(), rtol=0, atol=0)
    assert store.get(0).dtype == torch.float16


def test_files_hold_no_more_than_announced(tmp_path: Path) -> None:
    store, _, _ = filled(tmp_path)
    assert max(path.stat().st_size for path in store.files) <= store.item_size < 2 * 32 * 2 + 1024


def test_an_image_is_known_by_its_content_alone(tmp_path: Path) -> None:
    _, paths, maps = filled(tmp_path)
    moved = [path.rename(path.with_stem(f"other{path.stem}")) for path in paths]
    moved[1].write_bytes(b"another picture")
    store = DiskStore(moved, tmp_path / "kept", SHAPE, torch.float16)
    assert store.missing(range(3)) == [1]
    assert torch.equal(store.get(2), maps[2])


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "other shape", "gone"])
def test_damaged_files_are_found_and_replaced(damage: str, tmp_path: Path) -> None:
    store, _, maps = filled(tmp_path)
    path = store.files[1]
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-7])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flipped":
        content[-3] ^= 1
        path.write_bytes(content)
    elif damage == "other shape":
        other = DiskStore(photos(tmp_path / "photos"), tmp_path / "kept", (3, 4, 4), torch.float16)
        other.put(1, torch.zeros(3, 4, 4))
    else:
        path.unlink()
    assert store.missing(range(3)) == [1]
    store.put(1, maps[1])
    assert store.missing(range(3)) == []


def test_a_writer_that_is_killed_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _, maps = filled(tmp_path)
    store.files[0].unlink()

    def killed(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        store.put(0, maps[0])
    assert sorted(store.files[0].parent.iterdir()) == sorted(store.files[1:])


def test_several_writers_of_one_folder(tmp_path: Path) -> None:
    paths = photos(tmp_path / "photos", 8)
    (tmp_path / "kept").mkdir()
    maps = torch.randn(8, *SHAPE).half()
    stores = [DiskStore(paths, tmp_path / "kept", SHAPE, torch.float16) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda store: [store.put(p, maps[p]) for p in range(8)], stores))
    assert stores[0].missing(range(8)) == []
    assert len(list((tmp_path / "kept").iterdir())) == 8


def test_a_full_disk_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_room(tmp_path, 1000)
    monkeypatch.setattr(stores.shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * 10**9))
    with pytest.raises(SIVTError, match=r"need 2\.0 GB in .*, where 2\.0 GB are free: make room"):
        make_room(tmp_path, 2 * 10**9)


def test_a_feature_that_vanishes_is_a_sentence(tmp_path: Path) -> None:
    store, _, _ = filled(tmp_path)
    store.files[0].unlink()
    with pytest.raises(SIVTError, match="was removed or damaged"):
        store.get(0)


def test_a_folder_that_cannot_be_written(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    data = SIVTDataModule(str(tiny_data), image_size=32, cache="disk", cache_dir=str(tmp_path / "file"))
    data.setup("fit")
    with pytest.raises(SIVTError, match=r"Cannot write features into .*--data\.cache_dir"):
        data.keep_features(lambda images: images, (3, 32, 32), "key")


def test_unreadable_image_stops(tmp_path: Path) -> None:
    root = write_tiny_data(tmp_path / "data", train=4)
    (root / "down/train/good/001.png").write_bytes(b"nothing")
    data = SIVTDataModule(str(root), image_size=32, cache="memory")
    data.setup("fit")
    with pytest.raises(SIVTError, match=r"001\.png"):
        data.keep_features(lambda images: images, (3, 32, 32), "key")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often an image was decoded, and the backbone asked."""
    count = {"decoded": 0, "backbone": 0}

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            count[name] += 1
            return call(*args, **kwargs)

        return counting

    monkeypatch.setattr(dataset, "read_image", counted("decoded", dataset.read_image))
    monkeypatch.setattr(Backbone, "forward", counted("backbone", Backbone.forward))
    return count


def test_an_epoch_decodes_nothing_and_asks_no_backbone(calls: dict[str, int], tiny_config: Path) -> None:
    def fit(kind: str, epochs: int) -> dict[str, int]:
        calls.update(decoded=0, backbone=0)
        options = ["--data.cache", kind, "--trainer.max_epochs", str(epochs), "--panel.every_n_epochs", "0"]
        assert main(["fit", "--config", str(tiny_config), *options]) == 0
        return dict(calls)

    images = 20
    once = fit("memory", 1)
    assert once["decoded"] == images + 18 + 2  # 18 to calibrate on, 2 to put synthetic defects into
    assert once == fit("memory", 4)
    assert fit("disk", 1) == once
    again = fit("disk", 3)
    assert (once["decoded"] - again["decoded"], once["backbone"] - again["backbone"]) == (images, images)
    assert fit("off", 2)["decoded"] - fit("off", 1)["decoded"] == images


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_kept_features_train_alike(precision: str, tiny_config: Path) -> None:
    losses = []
    fit = ["fit", "--config", str(tiny_config), "--trainer.precision", precision]
    for kind in ("off", "memory", "disk"):
        assert main([*fit, "--name", kind, "--data.cache", kind]) == 0
        logged = rows_of(Path("runs") / kind / "version_0" / "metrics.csv")
        losses.append([float(row["val/loss"]) for row in logged if row["val/loss"]])
    assert losses[1] == losses[2]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)  # features are rounded to float16


def test_other_weights_statistics_or_precision_have_other_features(tiny_config: Path) -> None:
    fit = ["fit", "--config", str(tiny_config), "--data.cache", "disk", "--trainer.max_epochs", "1"]
    for options in ([], ["--trainer.max_epochs", "2"], ["--seed_everything", "1"], ["--model.image_size", "64"]):
        assert main([*fit, *options]) == 0
    assert len(list(Path("runs/features").iterdir())) == 3
    assert main([*fit, "--trainer.precision", "bf16-mixed"]) == 0
    assert len(list(Path("runs/features").iterdir())) == 4
    shutil.rmtree("runs/features")
    assert main(fit) == 0
