"""Exports: the same scores from every runtime, the side-car, and what is refused."""

import contextlib
import hashlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import run
from packaging.requirements import Requirement
from PIL import Image

from sivt_lightning import Predictor, SIVTError
from sivt_lightning.checkpoint import read_checkpoint
from sivt_lightning.cli import main
from sivt_lightning.data.images import read_image, to_tensor
from sivt_lightning.model.detector import Detection
from sivt_lightning.runtimes import restore_detector

MADE = {
    "onnx": ("fp32.onnx", "int8.onnx"),
    "openvino": ("fp32.xml", "bf16.xml", "int8.xml"),
    "torch": ("fp32.pt2", "bf16.pt2"),
}
EXPORT = """
import sys
from sivt_lightning.cli import main
for kind, files in {made!r}.items():
    for name in files:
        told = ["--ckpt_path", "best.ckpt", "--format", kind, "--precision", name.split(".")[0], "--output", name]
        assert main(["export", *told]) == 0
"""
README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and every export of it."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copy(checkpoint, folder / "best.ckpt")
    with contextlib.chdir(folder):  # without the checks of shapes, which are no numbers while torch traces
        run(code=EXPORT.format(made=MADE))
    return folder


@pytest.fixture(scope="module")
def photos(tiny_data: Path) -> list[Path]:
    return sorted(tiny_data.glob("*/test/*/*.png"))


def pixels_of(photos: list[Path]) -> torch.Tensor:
    return torch.stack([to_tensor(read_image(photo).image, 32) for photo in photos])


@torch.no_grad()
def in_torch(folder: Path, photos: list[Path], dtype: torch.dtype) -> Detection:
    path = folder / "best.ckpt"
    detector = restore_detector(path, read_checkpoint(str(path))).to(dtype)
    return detector(pixels_of(photos).to(dtype))


def as_exported(path: Path, photos: list[Path]) -> Detection:
    if path.suffix == ".pt2":
        with torch.no_grad():
            return Detection(*torch.export.load(path).module()(pixels_of(photos)))
    return Predictor(path).model(pixels_of(photos))


@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.xml", "fp32.pt2"])
@pytest.mark.parametrize("count", [1, 5])
def test_float32_errs_no_more_than_torch_does(name: str, count: int, folder: Path, photos: list[Path]) -> None:
    exact, plain = (in_torch(folder, photos[:count], dtype) for dtype in (torch.float64, torch.float32))
    found = as_exported(folder / name, photos[:count])
    error, allowed = ((one.map.double() - exact.map).abs().mean() for one in (found, plain))
    assert found.map.shape == (count, 32, 32)
    assert error <= 2 * allowed
    torch.testing.assert_close(found.score.double(), exact.score, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["bf16.xml", "bf16.pt2", "int8.onnx", "int8.xml"])
def test_narrow_numbers_change_little(name: str, folder: Path, photos: list[Path]) -> None:
    exact, found = in_torch(folder, photos, torch.float64), as_exported(folder / name, photos)
    torch.testing.assert_close(found.score.double(), exact.score, rtol=0.1, atol=0)
    assert np.corrcoef(found.map.flatten(), exact.map.flatten())[0, 1] > 0.98


def test_int8_is_int8(folder: Path) -> None:
    import onnx
    import openvino

    weights = [one.data_type for one in onnx.load(folder / "int8.onnx").graph.initializer]
    assert weights.count(onnx.TensorProto.INT8) >= 8  # linear layers of two blocks and both ends
    nodes = openvino.Core().read_model(folder / "int8.xml").get_ops()
    types = [output.get_element_type() for node in nodes for output in node.outputs()]
    assert types.count(openvino.Type.i8) >= 8
    assert json.loads((folder / "int8.xml.json").read_text())["calibration_images"] == 18  # all training images


@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.xml", "bf16.xml", "int8.onnx"])
def test_a_predictor_does_with_it_what_it_does_with_a_checkpoint(name: str, folder: Path, photos: list[Path]) -> None:
    right, found = (Predictor(folder / file, device="cpu")(photos) for file in ("best.ckpt", name))
    of_category = Predictor(folder / name, category="down", batch_size=3)
    assert of_category.threshold == Predictor(folder / "best.ckpt", category="down").threshold
    for one, other in zip(found, right, strict=True):
        close = 1e-4 if name.startswith("fp32") else 0.1
        assert one.score == pytest.approx(other.score, rel=close)
        assert (one.threshold, one.pixel_threshold) == (other.threshold, other.pixel_threshold)
        assert one.size == other.size == (40, 40)
        if name.startswith("fp32"):
            assert [region.box for region in one.regions] == [region.box for region in other.regions]


def test_the_side_car_says_what_is_needed(folder: Path) -> None:
    checkpoint = read_checkpoint(str(folder / "best.ckpt"))
    for names in MADE.values():
        for name in names:
            told = json.loads((folder / f"{name}.json").read_text())
            assert told["precision"] == name.split(".")[0]
            assert told["input"]["shape"] == ["batch", 3, 32, 32]
            assert told["normalization"]["mean"] == pytest.approx([0.485, 0.456, 0.406])
            assert told["normalization"]["std"] == pytest.approx([0.229, 0.224, 0.225])
            assert told["categories"] == ["across", "down"]
            assert told["thresholds"] == json.loads(json.dumps(checkpoint["thresholds"]))
            assert told["versions"]["torch"] == torch.__version__.split("+")[0]
            files = {name, f"{Path(name).stem}.bin"} if name.endswith("xml") else {name}
            assert set(told["sha256"]) == files
            for file, digest in told["sha256"].items():
                assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest
    thresholds = json.loads((folder / "fp32.onnx.json").read_text())["thresholds"]["pooled"]
    held = str(thresholds["image"])[:8].encode()
    assert held not in (folder / "fp32.xml").read_bytes()  # none in the graph


def copied(folder: Path, name: str, to: Path) -> Path:
    for file in (name, f"{name}.json", f"{Path(name).stem}.bin"):
        if (folder / file).exists():
            (to / file).write_bytes((folder / file).read_bytes())
    return to / name


def test_what_is_not_whole_is_refused(folder: Path, tmp_path: Path) -> None:
    path = copied(folder, "fp32.xml", tmp_path)
    (tmp_path / "fp32.bin").write_bytes(b"0" + (tmp_path / "fp32.bin").read_bytes()[1:])
    with pytest.raises(SIVTError, match=r"fp32.bin is not the file"):
        Predictor(path)
    (tmp_path / "fp32.bin").unlink()
    with pytest.raises(SIVTError, match=r"fp32.bin is missing"):
        Predictor(path)
    path = copied(folder, "fp32.onnx", tmp_path)
    side_car = tmp_path / "fp32.onnx.json"
    told = json.loads(side_car.read_text())
    thresholds, pooled = told["thresholds"], told["thresholds"]["pooled"]
    for content, sentence in (
        ("{", "damaged"),
        (json.dumps(told | {"thresholds": 3}), "damaged"),
        *(
            (json.dumps(told | {"thresholds": thresholds | {"pooled": pooled | {"image": value}}}), "damaged")
            for value in (float("nan"), "40", None, [1])
        ),
        (json.dumps(told | {"sha256": {"../secret": "0"}}), "of another model"),
        (json.dumps(told | {"sha256": told["sha256"] | {"../secret": "0"}}), "missing"),
    ):
        side_car.write_text(content)
        with pytest.raises(SIVTError, match=sentence):
            Predictor(path)
    side_car.unlink()
    with pytest.raises(SIVTError, match="which `sivt export` writes beside it"):
        Predictor(path)
    path.write_bytes(b"no model")
    side_car.write_text(json.dumps(told | {"sha256": {"fp32.onnx": hashlib.sha256(b"no model").hexdigest()}}))
    with pytest.raises(SIVTError, match="cannot be opened"):
        Predictor(path)


def test_a_session_that_fell_back_to_the_cpu_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ONNX Runtime does, with a warning only, where its package knows CUDA and the machine has it not."""
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(runtime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    session = runtime.InferenceSession
    monkeypatch.setattr(
        runtime, "InferenceSession", lambda path, **_: session(path, providers=["CPUExecutionProvider"])
    )
    with pytest.raises(SIVTError, match="cannot use it here"):
        Predictor(folder / "fp32.onnx", device="cuda")


def test_settings_that_a_file_has_not_are_refused(folder: Path) -> None:
    with pytest.raises(SIVTError, match="there is no such file"):
        Predictor(folder / "none.onnx")
    with pytest.raises(SIVTError, match=r"for torch\.export\.load"):
        Predictor(folder / "fp32.pt2")
    for name in ("fp32.onnx", "fp32.xml"):
        with pytest.raises(SIVTError, match="was exported in fp32"):
            Predictor(folder / name, precision="bf16-mixed")
        with pytest.raises(SIVTError, match="device abacus"):
            Predictor(folder / name, device="abacus")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--format", "onnx", "--precision", "bf16"], "format onnx has fp32, int8"),
        (["--format", "torch", "--precision", "int8"], "format torch has fp32, bf16"),
        (["--format", "onnx", "--output", "model.xml"], "ends in .onnx"),
        (["--format", "onnx", "--precision", "int8", "--calibration", "nowhere"], "nowhere is no folder"),
        (["--format", "onnx", "--output", "fp32.onnx"], "add --overwrite"),
        (["--format", "tflite"], "tflite"),
    ],
)
def test_what_cannot_be_exported(
    given: list[str], sentence: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    assert main(["export", "--ckpt_path", "best.ckpt", *given]) in (1, 2)
    assert sentence in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


def test_a_package_that_is_missing_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, extra, file in (("onnxruntime", "onnx", "fp32.onnx"), ("openvino", "openvino", "fp32.xml")):
        monkeypatch.setitem(sys.modules, name, None)
        assert main(["export", "--ckpt_path", str(folder / "best.ckpt"), "--format", extra]) == 1
        assert f"pip install 'sivt-lightning[{extra}]'" in capsys.readouterr().err
        with pytest.raises(SIVTError, match=rf"sivt-lightning\[{extra}\]"):
            Predictor(folder / file)


def test_the_readme_script_needs_three_packages_only(folder: Path, photos: list[Path], tmp_path: Path) -> None:
    """In an environment that has onnxruntime, numpy, pillow, and what these need; linked, so without a network."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    place = next((tmp_path / "env").glob("lib/python*/site-packages"))
    wanted, linked = ["onnxruntime", "numpy", "pillow"], set[str]()
    while wanted:
        name = wanted.pop().lower()
        if name in linked:
            continue
        linked.add(name)
        found = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in found.files or () if not file.parts[0].startswith("..")}:
            source = Path(str(found.locate_file(top)))
            if source.exists() and not (place / top).exists():
                (place / top).symlink_to(source)
        needs = [Requirement(text) for text in found.requires or ()]
        wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    python = tmp_path / "env/bin/python"
    for absent in ("torch", "lightning", "sivt_lightning"):
        assert subprocess.run([python, "-Ic", f"import {absent}"], capture_output=True).returncode == 1
    script = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "onnxruntime" in block)
    (tmp_path / "score.py").write_text(script)
    path = photos[0].parent / "sideways.jpg"
    image = Image.open(photos[0]).convert("RGB")
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / path.name, exif=turned)
    for photo in (photos[0], tmp_path / path.name):
        told = [python, tmp_path / "score.py", folder / "fp32.onnx", photo]
        done = subprocess.run(told, capture_output=True, text=True, check=True, cwd=tmp_path)
        right = Predictor(folder / "fp32.onnx")(photo)
        score, verdict = done.stdout.split()
        assert float(score) == pytest.approx(right.score, rel=1e-4)
        assert verdict == ("anomalous" if right.is_anomalous else "normal")
