"""Features that are kept: computed once, found again, and equal to what they stand for within their precision."""

import ast
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import rows_of, write_tiny_data
from forked import run_two
from torch.nn.functional import conv2d

import sivt_lightning
from sivt_lightning.cli import main
from sivt_lightning.data import dataset
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.errors import SIVTError
from sivt_lightning.features import key
from sivt_lightning.features import store as stores
from sivt_lightning.features.fill import Wanted, keep
from sivt_lightning.features.key import feature_key
from sivt_lightning.features.store import DiskStore, FeatureDataset, MemoryStore, check_memory, make_room
from sivt_lightning.model.backbone import Backbone
from sivt_lightning.model.detector import Detector
from sivt_lightning.training.module import SIVT

SHAPE = (2, 4, 4)
PACKAGE = Path(sivt_lightning.__file__).parent


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
    # 18 to measure channels on, 2 to put defects into and 2 to make these of, all to calibrate verdicts with at the end
    assert once["decoded"] == images + 18 + 2 + 2 + images
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


def test_other_weights_statistics_precision_or_depth_have_other_features(tiny_config: Path) -> None:
    fit = ["fit", "--config", str(tiny_config), "--data.cache", "disk", "--trainer.max_epochs", "1"]
    for options in ([], ["--trainer.max_epochs", "2"], ["--seed_everything", "1"], ["--model.image_size", "64"]):
        assert main([*fit, *options]) == 0
    assert len(list(Path("runs/features").iterdir())) == 3
    assert main([*fit, "--trainer.precision", "bf16-mixed"]) == 0
    assert main([*fit, "--data.depth", "12"]) == 0
    assert len(list(Path("runs/features").iterdir())) == 5
    shutil.rmtree("runs/features")
    assert main(fit) == 0


@pytest.fixture(scope="module")
def detector() -> Detector:
    return SIVT(backbone="resnet18", strides=[4], weights="random", image_size=32).detector


def test_the_key_covers_device_precision_and_preprocessing(detector: Detector) -> None:
    keys = [
        feature_key(detector, precision, device, {"depth": depth})
        for precision, device, depth in (
            ("32-true", "cpu", None),
            ("32-true", "cuda", None),
            ("bf16-mixed", "cpu", None),
            ("32-true", "cpu", "12"),
        )
    ]
    assert len(set(keys)) == 4
    assert feature_key(detector, "32-true", "cpu", {"depth": None}) == keys[0]


@pytest.mark.parametrize("source", key.SOURCES)
def test_the_key_covers_the_code(
    source: str, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = feature_key(detector, "32-true", "cpu", {})
    for path in key.SOURCES:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(PACKAGE / path, tmp_path / path)
    monkeypatch.setattr(key, "files", lambda _: tmp_path)
    copied = tmp_path / source
    copied.write_text("# a comment\n" + copied.read_text())
    assert feature_key(detector, "32-true", "cpu", {}) == before
    copied.write_text(copied.read_text() + "CHANGED = True\n")
    assert feature_key(detector, "32-true", "cpu", {}) != before


def test_the_key_misses_no_code() -> None:
    """What the code from file to features imports is part of it, or cannot change them."""
    harmless = {
        "errors",
        "seeding",
        "model.scoring",
        "model.detection",
        "model.settings",
        "processes",
        "features.store",
    }
    harmless |= {"data.samples", "data.masks", "model.memory_bank", "model.partition", "model.reconstructor"}
    harmless |= {"model.settings"}  # the network has their values, which the key holds
    modules = {source.removesuffix(".py").replace("/", ".") for source in key.SOURCES}
    for source in key.SOURCES:
        for node in ast.walk(ast.parse((PACKAGE / source).read_text())):
            name = str(node.module) if isinstance(node, ast.ImportFrom) else ""
            if name.startswith("sivt_lightning."):
                assert name.removeprefix("sivt_lightning.") in modules | harmless, f"{source} imports {name}"


def given(count: int, dtype: torch.dtype = torch.float32) -> tuple[Wanted, torch.Tensor]:
    pictures = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return Wanted([Path(str(i)) for i in range(count)], pictures.__getitem__, FeatureDataset(count), dtype), pictures


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_each_thread_computes_an_image_alone(two_threads: None) -> None:
    """Threads that shared an operation would wait for one another, longest where other programs compute."""
    wanted, pictures = given(6)
    weights = torch.randn(4, 3, 3, 3)
    together, used = threading.Barrier(2, timeout=60), []

    def compute(images: torch.Tensor) -> torch.Tensor:
        together.wait()  # ends only where two images are computed at a time
        used.append((len(images), torch.get_num_threads()))
        return conv2d(images, weights)

    keep([wanted], None, (4, 6, 6), compute, threads=2, processes=1)
    assert used == [(1, 1)] * 6
    assert torch.get_num_threads() == 2
    later = threading.Thread(target=lambda: used.append((0, torch.get_num_threads())))
    later.start()
    later.join()
    assert used[-1] == (0, 2)
    for position, picture in enumerate(pictures):
        assert torch.equal(wanted.features.store.get(position), conv2d(picture[None], weights)[0])


# Two processes without a training around them: what each reads, computes and is told.
SHARES = """
import json, os, sys
from collections import Counter
from pathlib import Path
import torch
import torch.distributed as dist
from sivt_lightning.errors import SIVTError
from sivt_lightning.features import fill, store

rank, kind, out = int(os.environ["LOCAL_RANK"]), sys.argv[1], Path(sys.argv[2])
dist.init_process_group("gloo", rank=rank, world_size=2)
store.PARCEL = 300  # bytes: two images of each process
told, count = [], 7
paths = [out / f"{position}.png" for position in range(count)]
for position, path in enumerate(paths):
    path.write_bytes(bytes([position]))
dist.barrier()
computed = []
for name in ("content_digest", "_is_sound"):
    place = store if name == "content_digest" else store.DiskStore
    def counted(*args, name=name, call=getattr(place, name)):
        told.append(name)
        return call(*args)
    setattr(place, name, counted)

def read(position):
    if position == broken:
        raise SIVTError(f"{position} is broken")
    computed.append(position)
    return torch.full((3, 4, 4), float(position))

broken, error = 3, ""
folder = out / "kept" if kind == "disk" else None
for attempt in range(3):
    wanted = fill.Wanted(paths, read, store.FeatureDataset(count), torch.float16)
    try:
        fill.keep([wanted], folder, (3, 4, 4), lambda images: images, 1, 2)
    except SIVTError as failure:
        error = f"{type(failure).__name__}: {failure}"
        computed.clear()
        if folder:
            for path in folder.iterdir():
                path.unlink(missing_ok=True)
    broken = None
    told = told if attempt else []
    dist.barrier()
seen = [float(wanted.features.store.get(position).mean()) for position in range(count)]
(out / f"{rank}.json").write_text(json.dumps([error, computed, seen, Counter(told)]))
dist.destroy_process_group()
"""


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_two_processes_divide_the_work(kind: str, tmp_path: Path) -> None:
    run_two(kind, str(tmp_path), code=SHARES)
    for rank, mine in enumerate([[0, 2, 4, 6], [1, 3, 5]]):
        error, computed, seen, read = json.loads((tmp_path / f"{rank}.json").read_text())
        assert error == "Agreed: 3 is broken"  # on the second process; so one sentence is said, and both end
        assert seen == list(range(7))
        if kind == "memory":
            assert computed == mine * 2
        else:  # the second time all are there, which each process looks up for half of them
            assert computed == mine
            assert read == {"content_digest": 2 * len(mine), "_is_sound": 2 * len(mine)}


def test_memory_that_is_not_there_is_refused_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, _ = given(1000)
    size = 1000 * 4 * 6 * 6 * 4
    monkeypatch.setattr(stores, "free_memory", lambda: 2**30 + size)
    check_memory(size, 1)
    for processes, place in ((1, "in memory"), (3, "in each of 3 processes")):
        monkeypatch.setattr(stores, "free_memory", lambda processes=processes: processes * (2**30 + size) - 1)
        sentence = f"need 0.0 GB {place}, and the training 1 GB or more, but .* GB are free: set --data.cache to disk"
        with pytest.raises(SIVTError, match=sentence):
            keep([wanted], None, (4, 6, 6), lambda images: images, threads=1, processes=processes)
        assert not hasattr(wanted.features, "store")
    monkeypatch.setattr(stores, "free_memory", lambda: None)  # where the system does not tell
    check_memory(10**15, 1)
    with pytest.raises(SIVTError, match=r"the system gives no more: set --data\.cache"):
        MemoryStore(2**46, SHAPE, torch.float16)
