"""`sivt check`: whether a model that is deployed judges golden photos as the tested one did."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sivt_lightning.cli import main
from sivt_lightning.data import grid
from sivt_lightning.data.images import to_tensor
from sivt_lightning.golden.comparing import compare, rows
from sivt_lightning.golden.recorded import Record, Run, Said
from sivt_lightning.inference.checkpoint_model import CheckpointModel

RUN = Run("m.ckpt", "abc", 0.03, None, {"python": "3.11.7"})


@pytest.fixture(scope="module")
def recorded(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three coloured photos, larger than the model sees them, one of them in a folder."""
    folder = tmp_path_factory.mktemp("golden")
    draws = np.random.default_rng(0)
    for name in ("a.png", "b.png", "deep/c.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        photo = draws.integers(0, 255, (9, 7, 3)) * np.array([1.0, 0.6, 0.2])
        Image.fromarray(photo.astype(np.uint8)).resize((150, 110)).save(folder / name)
    assert main(["check", "--model", str(checkpoint), "--golden", str(folder), "--record"]) == 0
    return folder


def check(model: Path, folder: Path, *options: str) -> int:
    return main(["check", "--model", str(model), "--golden", str(folder), *options])


def test_the_recorded_model_agrees(checkpoint: Path, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = recorded.parent / "found.json"
    assert check(checkpoint, recorded, "--json", str(file), "--tolerance", "1e-6") == 0
    said = capsys.readouterr().out
    assert "is the recorded model. A photo takes" in said
    assert "All 3 photos are judged as recorded" in said
    found = json.loads(file.read_text())
    assert {one["then"]["photo"] for one in found["photos"]} == {"a.png", "b.png", "deep/c.png"}
    assert all(one["faults"] == [] and one["score"] < 1e-6 for one in found["photos"])
    assert found["now"]["versions"]["torch"] == torch.__version__.split("+")[0]


def test_an_export_in_another_runtime_agrees(checkpoint: Path, recorded: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    options = ["--format", "onnx", "--output", str(file), "--keep_thresholds"]
    assert main(["export", "--ckpt_path", str(checkpoint), *options]) == 0
    assert check(file, recorded) == 0


def nearest(photo: Image.Image, height: int, width: int | None = None) -> Tensor:
    return to_tensor(photo.resize((width or height, height), Image.Resampling.NEAREST), height, width)


def blue_first(photo: Image.Image, height: int, width: int | None = None) -> Tensor:
    return to_tensor(photo, height, width).flip(0)


def rough(self: CheckpointModel, images: Tensor, call: Any = CheckpointModel.__call__) -> Any:
    found = call(self, images)
    return found._replace(map=found.map * torch.linspace(0.9, 1.1, found.map.shape[-1]), score=found.score)


@pytest.mark.parametrize(
    ("place", "planted"),
    [
        ((grid, "to_tensor"), nearest),
        ((grid, "to_tensor"), blue_first),
        ((CheckpointModel, "__call__"), rough),
    ],
    ids=["resize", "colours", "runtime"],
)
def test_what_is_planted_is_caught(
    checkpoint: Path,
    recorded: Path,
    place: tuple[Any, str],
    planted: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(*place, planted)
    assert check(checkpoint, recorded) == 1
    assert "of 3 golden photos are not judged as recorded; " in capsys.readouterr().err


def test_photos_that_are_gone_or_others_are_named(
    checkpoint: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in ("golden.json", "golden.safetensors", "a.png"):
        (folder / file).write_bytes((recorded / file).read_bytes())
    assert check(checkpoint, folder) == 1
    assert "lacks b.png, deep/c.png, recorded in it" in capsys.readouterr().err
    (folder / "deep").mkdir()
    for name in ("b.png", "deep/c.png"):
        Image.open(recorded / name).save(folder / name, compress_level=1)  # the same pixels in another file
    assert check(checkpoint, folder) == 1
    assert "2 of 3 golden photos are not judged as recorded; " in (said := capsys.readouterr().err)
    assert "its file is another" in said


def test_a_record_is_not_replaced_unasked(checkpoint: Path, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (recorded / "golden.json").read_bytes()
    assert check(checkpoint, recorded, "--record") == 1
    assert "golden.json is there already: keep it, or replace it with --overwrite" in capsys.readouterr().err
    assert (recorded / "golden.json").read_bytes() == before
    assert check(checkpoint, recorded, "--record", "--overwrite") == 0
    assert "Not images, so left out of" in capsys.readouterr().out


def test_what_cannot_be_checked_is_said(
    checkpoint: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*options: str, folder: Path = tmp_path) -> str:
        assert check(checkpoint, folder, *options) == 1
        return capsys.readouterr().err

    assert "holds no golden.json: have the tested model write it" in told()
    (tmp_path / "file").touch()
    assert "is no folder" in told("--record", folder=tmp_path / "none")
    assert "is no folder" in told(folder=tmp_path / "file")
    assert "Name another folder with --json" in told("--json", str(tmp_path / "file/found.json"), folder=recorded)
    assert "Is a directory. Name another." in told("--json", str(tmp_path), folder=recorded)
    assert "tolerance is 2: give a share" in told("--tolerance", "2")
    plain = json.loads((recorded / "golden.json").read_text())
    (tmp_path / "golden.safetensors").write_bytes((recorded / "golden.safetensors").read_bytes())
    for content in ("{", "[]", "{}", json.dumps(plain | {"photos": [1]}), json.dumps(plain | {"maps": "0"})):
        (tmp_path / "golden.json").write_text(content)
        assert "is damaged: copy both from where they were recorded" in told()
    (tmp_path / "golden.json").write_text(json.dumps(plain | {"format": 9}))
    assert "is of a later version" in told()


def record_of(score: float, verdict: str = "normal", product: str | None = "bolt", peak: float = 2.0) -> Record:
    return Record(RUN, [Said("a.png", "0", verdict, product, score, 1.0)], [np.array([[peak, 1.0]], np.float32)])


def test_scores_and_maps_are_held_against_the_recorded_ones() -> None:
    [same], [off] = (compare(record_of(2.0), now) for now in (record_of(2.0), record_of(2.1, peak=2.3)))
    assert (same.worst, same.faults(1e-9)) == (0, [])
    assert off.score == pytest.approx(0.05)
    assert off.map == pytest.approx(0.3 / 5**0.5)
    assert off.faults(0.2) == []
    assert off.faults(0.1) == ["map 13.4% off"]
    assert off.faults(0.01) == ["score 2.1, was 2", "map 13.4% off"]
    [other] = compare(record_of(2.0), record_of(2.0, "unknown", None))
    assert other.faults(0.1) == ["unknown, was normal", "taken for no product, was bolt"]
    assert rows([off])[0] == ["a.png", "normal", "2.1", "2", "5.00%", "13.42%"]


def test_a_map_of_another_size_or_of_nothing_is_off() -> None:
    larger = record_of(2.0)
    larger.maps[0] = np.zeros((4, 4), np.float32)  # type: ignore[index]
    assert compare(record_of(2.0), larger)[0].map == 1
    assert compare(record_of(0.0), record_of(0.1))[0].faults(0.5) == ["score 0.1, was 0"]
