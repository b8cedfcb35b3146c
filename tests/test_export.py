"""Exports: the same scores from every runtime, the side-car, and what is refused."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import rows_of
from forked import Forked, run
from packaging.requirements import Requirement
from PIL import Image

from sivt_lightning import Predictor, SIVTError
from sivt_lightning.cli import main
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.images import read_image, to_tensor
from sivt_lightning.export import graph
from sivt_lightning.export.model_files import refuse_far
from sivt_lightning.inference.about import of_checkpoint, read_about
from sivt_lightning.inference.calibration import Calibration
from sivt_lightning.inference.checkpoint import read_checkpoint
from sivt_lightning.inference.checkpoint_model import restore_detector
from sivt_lightning.inference.formats import FORMAT
from sivt_lightning.inference.good_photos import GoodPhotos
from sivt_lightning.inference.models import Model
from sivt_lightning.inference.thresholds import Thresholds
from sivt_lightning.model.detection import Detection

MADE = {
    "onnx": ("fp32.onnx", "int8.onnx"),
    "openvino": ("fp32.xml", "bf16.xml", "int8.xml"),
    "torch": ("fp32.pt2", "bf16.pt2"),
}
RUNTIMES = {"onnx": "onnxruntime", "xml": "openvino", "pt2": "torch"}
EXPORT = """
import socket
from pathlib import Path
from onnx.utils import extract_model
def asked(*arguments, **_):
    Path("asked.txt").write_text(repr(arguments))
    raise OSError("there is no network")
socket.getaddrinfo = asked
from sivt_lightning.cli import main
from sivt_lightning.export import graph
save, made = graph.save_onnx, []
def save_onnx(detector, path, residual):  # int8 and OpenVINO begin with this file, too, which takes eight seconds
    weights = [value.tolist() for value in detector.state_dict().values()]
    if not made:
        save(detector, path)
        made.extend((weights, path.read_bytes()))
    assert weights == made[0]
    path.write_bytes(made[1])
graph.save_onnx = save_onnx
for kind, files in {made!r}.items():
    for name in files:
        told = ["--ckpt_path", "best.ckpt", "--format", kind, "--precision", name.split(".")[0], "--output", name]
        assert main(["export", *told]) == 0
told = ["--ckpt_path", "best.ckpt", "--format", "onnx", "--keep_thresholds", "--output", "kept.onnx"]
assert main(["export", *told]) == 0
class Earlier(graph.Graph):
    def forward(self, images):
        return super().forward(images)[:2]
graph.Graph = Earlier
def save_onnx(detector, path, residual):
    extract_model("fp32.onnx", str(path), ["images"], list(graph.OUTPUTS[:2]))
graph.save_onnx = save_onnx
for kind, suffix in (("onnx", "onnx"), ("openvino", "xml"), ("torch", "pt2")):
    told = ["--ckpt_path", "best.ckpt", "--format", kind, "--keep_thresholds", "--output", f"earlier.{{suffix}}"]
    assert main(["export", *told]) == 0
"""
INTERRUPTED = """
import signal, sys
from sivt_lightning import Predictor
first, second = (Predictor(sys.argv[1]) for _ in range(2))
del first
del second
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
PAGE = (Path(__file__).parents[1] / "docs/deployment.md").read_text()


@pytest.fixture(scope="module")
def twins(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set, its six held-out photos all one."""
    root = tmp_path_factory.mktemp("twins") / "data"
    shutil.copytree(tiny_data, root)
    data = SIVTDataModule(str(root), val_share=0.3)
    data.setup("fit")
    first, *others = (sample.path for sample in data.val_set.samples)
    for path in others:
        shutil.copy(first, path)
    return root


@pytest.fixture(scope="module")
def folder(twins: Path, tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and every export of it."""
    folder = tmp_path_factory.mktemp("exported")
    arguments = ["--data.root", str(twins), "--data.val_share", "0.3", "--trainer.max_epochs", "1"]
    arguments += ["--model.backbone", "resnet18"]  # what torch itself errs in smaller ones is little by chance
    with contextlib.chdir(folder):
        assert main(["fit", "--config", str(tiny_config), *arguments]) == 0
        shutil.copy("runs/tiny/version_0/checkpoints/best.ckpt", "best.ckpt")
        shutil.rmtree("runs")
        run(code=EXPORT.format(made=MADE))  # without the checks of shapes, which are no numbers while torch traces
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


def opened(path: Path) -> Model:
    return Predictor(path, device="cpu" if path.suffix == ".ckpt" else None).model


def as_exported(path: Path, photos: list[Path]) -> Detection:
    return opened(path)(pixels_of(photos))


def calibration_of(path: Path) -> Calibration:
    calibration = read_about(str(path)).calibration
    assert calibration is not None
    return calibration


@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.xml", "fp32.pt2"])
@pytest.mark.parametrize("count", [1, 5])
def test_float32_errs_no_more_than_torch_does(name: str, count: int, folder: Path, photos: list[Path]) -> None:
    exact, plain = (in_torch(folder, photos[:count], dtype) for dtype in (torch.float64, torch.float32))
    exported = as_exported(folder / name, photos[:count])
    error, allowed = ((one.map.double() - exact.map).abs().mean() for one in (exported, plain))
    assert exported.map.shape == (count, 32, 32)
    assert error <= 2 * allowed
    torch.testing.assert_close(exported.score.double(), exact.score, rtol=1e-4, atol=0)
    torch.testing.assert_close(exported.descriptor.double(), exact.descriptor, rtol=1e-4, atol=1e-5)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["bf16.xml", "bf16.pt2", "int8.onnx", "int8.xml"])
def test_narrow_numbers_change_little(name: str, folder: Path, photos: list[Path]) -> None:
    exact, exported = in_torch(folder, photos, torch.float64), as_exported(folder / name, photos)
    torch.testing.assert_close(exported.score.double(), exact.score, rtol=0.1, atol=0)
    assert np.corrcoef(exported.map.flatten(), exact.map.flatten())[0, 1] > 0.98
    recogniser = calibration_of(folder / "best.ckpt").recogniser
    ours, theirs = (recogniser(one.descriptor.double().numpy()) for one in (exported, exact))  # type: ignore[union-attr]
    assert [one.product for one in ours] == [one.product for one in theirs]
    assert [one.strangeness for one in ours] == pytest.approx([one.strangeness for one in theirs], rel=0.02)


def test_int8_is_int8(folder: Path) -> None:
    import onnx
    import openvino

    weights = [one.data_type for one in onnx.load(folder / "int8.onnx").graph.initializer]
    assert weights.count(onnx.TensorProto.INT8) >= 8  # linear layers of two blocks and both ends
    nodes = openvino.Core().read_model(folder / "int8.xml").get_ops()
    types = [output.get_element_type() for node in nodes for output in node.outputs()]
    assert types.count(openvino.Type.i8) >= 8
    later = graph._after_network(folder / "int8.onnx")  # of F and F~ all is exact: map, score, what is remembered
    quantised = {node.name for node in onnx.load(folder / "int8.onnx").graph.node if "Quantize" in node.op_type}
    rounded = {node.get_friendly_name().partition("/")[0] for node in nodes if node.get_type_name() == "FakeQuantize"}
    assert min(map(len, (later, quantised, rounded))) > 8
    assert not later & (quantised | rounded)
    assert json.loads((folder / "int8.xml.json").read_text())["calibration_images"] == 14  # all training images


@pytest.mark.parametrize("name", ["best.ckpt", *(name for names in MADE.values() for name in names)])
def test_a_part_like_those_held_out_is_normal(name: str, folder: Path, twins: Path) -> None:
    """However many images are computed with it: the thresholds are the highest of the file's own scores."""
    data = SIVTDataModule(str(twins), val_share=0.3)
    data.setup("fit")
    part = pixels_of([data.val_set.samples[0].path])
    calibration = calibration_of(folder / name)
    for category in ("across", "down"):
        # Of three held out, one new part in four is above the highest; rarer ones are beyond it.
        quarter, usual = (Predictor(folder / name, "cpu", None, category, false_alarms=share) for share in (0.25, 0.05))
        reference = calibration.products[category].score
        assert (reference.held_out, reference.trained) == (3, 7)
        for count in (1, 2, 5, 8):
            detection = quarter.model(part.repeat(count, 1, 1, 1))
            assert float(detection.score.max()) == pytest.approx(reference.threshold(0.25), rel=3e-5)
            for predictor in (quarter, usual):
                judged = predictor.judge(detection, [None] * count)
                assert not any(what.verdict == "anomalous" for what in judged)
                assert not any(
                    score > what.threshold.image for score, what in zip(detection.score, judged, strict=True)
                )


def test_thresholds_are_kept_only_where_asked(folder: Path) -> None:
    assert calibration_of(folder / "kept.onnx") == calibration_of(folder / "best.ckpt")
    source = json.loads((folder / "kept.onnx.json").read_text())["calibrated_on"]
    assert source == "the scores of the checkpoint, not of this file"
    ours, theirs = (calibration_of(folder / name).products["down"].score for name in ("fp32.onnx", "best.ckpt"))
    assert ours != theirs
    assert ours.threshold(0.05) == pytest.approx(theirs.threshold(0.05), rel=1e-3)


def test_an_export_asks_no_other_machine(folder: Path) -> None:
    assert not (folder / "asked.txt").exists()


@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.xml", "fp32.pt2", "bf16.xml", "bf16.pt2", "int8.onnx"])
def test_a_predictor_does_with_it_what_it_does_with_a_checkpoint(name: str, folder: Path, photos: list[Path]) -> None:
    right, exported = (Predictor(folder / file, device="cpu")(photos) for file in ("best.ckpt", name))
    of_category = Predictor(folder / name, category="down", batch_size=3)
    close = 1e-4 if name.startswith("fp32") else 0.1
    wanted = Predictor(folder / "best.ckpt", category="down").judge.threshold("down")
    assert of_category.judge.threshold("down").image == pytest.approx(wanted.image, rel=close)
    for one, other in zip(exported, right, strict=True):
        assert one.score == pytest.approx(other.score, rel=close)
        assert one.threshold == pytest.approx(other.threshold, rel=close)
        assert one.pixel_threshold == pytest.approx(other.pixel_threshold, rel=close)
        assert one.size == other.size == (40, 40)
        if name.startswith("fp32"):
            assert (one.verdict, one.product) == (other.verdict, other.product)
            assert one.calibrated == pytest.approx(other.calibrated, abs=1e-3)
            assert [region.box for region in one.regions] == [region.box for region in other.regions]


@pytest.fixture(scope="module")
def tested(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """metrics.json of the checkpoint and of exports, each by the one command that needs nothing but the file."""
    results = {}
    for name in ("best.ckpt", "fp32.onnx", "fp32.xml", "fp32.pt2", "int8.xml"):
        out = tmp_path_factory.mktemp("tested")
        bare = [f"--eval.{part}=false" for part in ("curves", "gallery", "report")]
        assert main(["test", "--ckpt_path", str(folder / name), "--output", str(out), *bare]) == 0
        results[name] = json.loads((out / "metrics.json").read_text())
    return results


@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.xml", "fp32.pt2", "int8.xml"])
def test_an_export_is_tested_as_a_checkpoint_is(
    name: str, tested: dict[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, theirs = tested[name], tested["best.ckpt"]
    exact = name != "int8.xml"
    for category in ("across", "down"):
        for figure, value in theirs["categories"][category].items():
            assert own["categories"][category][figure] == pytest.approx(value, abs=5e-5 if exact else 0.1), figure
    assert own["settings"]["model"] == theirs["settings"]["model"]
    assert own["settings"]["training"] == theirs["settings"]["training"]
    assert (own["settings"]["test"]["precision"], theirs["settings"]["test"]["precision"]) == (name[:4], "32-true")
    for kind, results in (("checkpoint", theirs), ("export", own)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "metrics.json").write_text(json.dumps(results))
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "checkpoint"), str(tmp_path / "export")]) == 0
    said = capsys.readouterr().out
    assert "seeds)" not in said  # side by side, not as two seeds of one experiment
    assert "not of the same data" not in said


@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.xml", "fp32.pt2"])
def test_an_export_predicts_as_a_checkpoint_does(
    name: str, folder: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {}
    for model in (name, "best.ckpt"):
        out = tmp_path / model
        given = ["--data.predict_path", str(tiny_data / "down/test"), "--output", str(out), "--writer.report", "false"]
        assert main(["predict", "--ckpt_path", str(folder / model), *given]) == 0
        rows[model] = rows_of(out / "predictions.csv")
    assert [row["path"] for row in rows[name]] == [row["path"] for row in rows["best.ckpt"]]
    for own, theirs in zip(rows[name], rows["best.ckpt"], strict=True):
        assert float(own["score"]) == pytest.approx(float(theirs["score"]), rel=1e-4)
    capsys.readouterr()
    assert main(["predict", "--ckpt_path", str(folder / "best.ckpt"), *given, "--resume"]) == 0
    given[3] = str(tmp_path / name)
    assert main(["predict", "--ckpt_path", str(folder / "best.ckpt"), *given, "--resume"]) == 1
    assert "predictions of another model" in capsys.readouterr().err


def test_an_export_is_run_without_what_a_checkpoint_needs_and_tells_nobody(folder: Path, tmp_path: Path) -> None:
    code = "import sys; from sivt_lightning import Predictor; Predictor(sys.argv[1])\n"
    code += "print(*{'lightning', 'timm', 'kornia', 'torchvision'} & set(sys.modules))"
    done = [sys.executable, "-c", code, str(folder / "fp32.onnx")]
    places = os.environ | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    assert subprocess.run(done, capture_output=True, text=True, check=True, env=places).stdout == "\n"
    assert not list(tmp_path.rglob("*onnxruntime*"))  # which tells its makers of each model


def test_an_export_is_measured_in_use(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--seconds", "0.01", "--batch_sizes", "[1,2]", "--json", str(tmp_path / "cost.json")]
    assert main(["benchmark", "--ckpt_path", str(folder / "int8.xml"), *quick]) == 0
    report = json.loads((tmp_path / "cost.json").read_text())
    assert report["machine"]["precision"] == "int8"
    assert [row["batch_size"] for row in report["inference"]] == [1, 2]
    assert main(["benchmark", "--ckpt_path", str(folder / "int8.xml"), "--model.width", "8"]) == 1
    assert "--model.width: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--trainer.precision", "bf16-mixed"], "was exported in fp32; export it in another"),
        (["--trainer.precision=32-true"], "was exported in fp32; export it in another"),
        (["--config", "{trainer: {precision: bf16-mixed}}"], "was exported in fp32; export it in another"),
        (["--seed_everything", "7"], "model and its thresholds were made with 0"),
    ],
)
def test_an_export_is_tested_as_it_was_trained(
    given: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", "--ckpt_path", str(folder / "fp32.onnx"), "--output", str(tmp_path / "out"), *given]) == 1
    assert said in capsys.readouterr().err


def test_a_side_car_of_format_0_lacks_the_data_only(
    folder: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(folder / "fp32.onnx", tmp_path)
    side_car = json.loads((folder / "fp32.onnx.json").read_text())
    assert side_car.pop("format_number") == FORMAT
    del side_car["settings"]
    (tmp_path / "fp32.onnx.json").write_text(json.dumps(side_car))
    told = ["test", "--ckpt_path", str(tmp_path / "fp32.onnx"), "--output", str(tmp_path / "out")]
    assert main(told) == 1
    assert "Set data.root" in capsys.readouterr().err
    assert main([*told, "--data.root", str(tiny_data), "--eval.report", "false", "--eval.curves", "false"]) == 0
    deep = tmp_path / "photos" / "deep.png"  # as a model knows of 8 bits alone, what is white there is unknown
    deep.parent.mkdir()
    Image.fromarray(np.full((40, 40), 4000, np.uint16)).save(deep)
    predict = ["--ckpt_path", told[2], "--data.predict_path", str(deep), "--output", str(tmp_path / "predictions")]
    assert main(["predict", *predict]) == 3
    assert "so what white is is unknown" in rows_of(tmp_path / "predictions/predictions.csv")[0]["error"]
    side_car["format_number"] = FORMAT + 1
    (tmp_path / "fp32.onnx.json").write_text(json.dumps(side_car))
    assert main(told) == 1
    assert f"its format is {FORMAT + 1}" in capsys.readouterr().err


def copied(folder: Path, name: str, to: Path) -> Path:
    for file in (name, f"{name}.json", f"{Path(name).stem}.bin"):
        if (folder / file).exists():
            (to / file).write_bytes((folder / file).read_bytes())
    return to / name


@pytest.fixture(params=[f"earlier.{suffix}-{number}" for suffix in RUNTIMES for number in (0, 1)])
def earlier(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Path:
    """An export as an earlier version wrote it: without descriptors, with thresholds."""
    name, number = request.param.split("-")
    path = copied(folder, name, tmp_path)
    side_car = json.loads((folder / f"{name}.json").read_text())
    for later in ("calibration", "limits", "calibrated_on"):
        del side_car[later]
    del side_car["outputs"]["descriptor"]
    thresholds = read_checkpoint(str(folder / "best.ckpt"))["thresholds"]
    side_car |= {"format_number": 1, "thresholds": thresholds, "thresholds_from": "6 held-out normal images"}
    if number == "0":
        del side_car["format_number"], side_car["settings"]
    Path(f"{path}.json").write_text(json.dumps(side_car))
    return path


def test_an_earlier_export_gives_what_it_gave(
    earlier: Path, folder: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thresholds = Thresholds.from_plain(read_checkpoint(str(folder / "best.ckpt"))["thresholds"])
    for category, threshold in ((None, thresholds.pooled), ("down", thresholds.categories["down"])):
        predictions = Predictor(earlier, category=category)(photos)
        right = Predictor(folder / f"fp32{earlier.suffix}")(photos)
        for one, other in zip(predictions, right, strict=True):
            assert one.score == pytest.approx(other.score, rel=1e-6)
            np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, rtol=1e-5)
            assert (one.threshold, one.pixel_threshold) == (threshold.image, threshold.pixel)
            assert one.verdict == ("anomalous" if one.score > threshold.image else "normal")
            assert (one.product, one.calibrated) == (category, None)
    with pytest.raises(SIVTError, match=r"`sivt calibrate --ckpt_path FILE` adds it.*has to be exported again"):
        Predictor(earlier, false_alarms=0.01)
    predict = ["predict", "--ckpt_path", str(earlier), "--data.predict_path", str(photos[0])]
    assert main([*predict, "--output", str(tmp_path / "out"), "--threshold_by", "product"]) == 1
    assert "has to be exported again" in capsys.readouterr().err
    good = ["--good", str(photos[0].parents[3])]
    assert main(["calibrate", "--ckpt_path", str(earlier), *good]) == 1
    assert "exported by an earlier version of sivt_lightning. Export it again" in capsys.readouterr().err
    assert not list(tmp_path.glob("*calibrated*"))


def test_the_side_car_says_what_is_needed(folder: Path, twins: Path) -> None:
    for names in MADE.values():
        for name in names:
            contents = json.loads((folder / f"{name}.json").read_text())
            assert contents["precision"] == name.split(".")[0]
            assert contents["input"]["shape"] == ["batch", 3, 32, 32]
            assert contents["normalization"]["mean"] == pytest.approx([0.485, 0.456, 0.406])
            assert contents["normalization"]["std"] == pytest.approx([0.229, 0.224, 0.225])
            assert contents["outputs"].keys() == {"score", "map", "descriptor"}
            assert contents["calibration"]["products"].keys() == {"across", "down"}
            assert contents["thresholds"] is None
            runtime = RUNTIMES[name.split(".")[1]]
            by = f"by the scores of this file in {runtime} {importlib.metadata.version(runtime)}"
            assert contents["calibrated_on"] == f"good photos in {twins}, {by}"
            assert contents["versions"]["torch"] == torch.__version__.split("+")[0]
            files = {name, f"{Path(name).stem}.bin"} if name.endswith("xml") else {name}
            assert set(contents["sha256"]) == files
            for file, digest in contents["sha256"].items():
                assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest
    held = str(calibration_of(folder / "fp32.xml").products["down"].score.values[0])[:8].encode()
    assert held not in (folder / "fp32.xml").read_bytes()  # none in the graph


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
    contents = json.loads(side_car.read_text())
    calibration, recogniser = contents["calibration"], contents["calibration"]["recogniser"]
    down = calibration["products"]["down"]
    for content, sentence in (
        ("{", "damaged"),
        (json.dumps(contents | {"thresholds": 3}), "damaged"),
        *(
            (json.dumps(contents | {"calibration": damaged}), "damaged")
            for damaged in (
                3,
                [],
                {},
                calibration | {"false_alarms": "few"},
                calibration | {"source": 3},
                calibration | {"products": {"down": down}},
                calibration | {"products": calibration["products"] | {"down": down | {"peak": None}}},
                *(
                    calibration | {"products": calibration["products"] | {"down": down | {"score": damaged}}}
                    for damaged in (
                        {},
                        *(down["score"] | {"values": [value] * 3} for value in (float("nan"), "40", None, [1], 1.0)),
                        down["score"] | {"held_out": -1},
                        down["score"] | {"decay": 0},
                    )
                ),
                calibration | {"recogniser": None},
                calibration | {"recogniser": recogniser | {"variance": [0.0] * len(recogniser["variance"])}},
                calibration | {"recogniser": recogniser | {"means": {"down": [1.0]}}},
            )
        ),
        (json.dumps(contents | {"sha256": {"../secret": "0"}}), "of another model"),
        (json.dumps(contents | {"sha256": contents["sha256"] | {"../secret": "0"}}), "missing"),
    ):
        side_car.write_text(content)
        with pytest.raises(SIVTError, match=sentence):
            Predictor(path)
    side_car.unlink()
    with pytest.raises(SIVTError, match="which `sivt export` writes beside it"):
        Predictor(path)
    path.write_bytes(b"no model")
    side_car.write_text(json.dumps(contents | {"sha256": {"fp32.onnx": hashlib.sha256(b"no model").hexdigest()}}))
    with pytest.raises(SIVTError, match="cannot be opened"):
        Predictor(path)


def test_a_pt2_file_that_computes_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    path = copied(folder, "fp32.pt2", tmp_path)
    with zipfile.ZipFile(folder / "fp32.pt2") as archive, zipfile.ZipFile(path, "w") as other:
        for member in archive.infolist():
            content = archive.read(member)
            if member.filename.endswith("models/model.json"):
                module = json.loads(content)
                module["graph_module"]["graph"]["outputs"].reverse()
                module["graph_module"]["signature"]["output_specs"].reverse()
                content = json.dumps(module).encode()
            other.writestr(member, content)
    side_car = json.loads((tmp_path / "fp32.pt2.json").read_text())
    side_car["sha256"] = {"fp32.pt2": hashlib.sha256(path.read_bytes()).hexdigest()}
    (tmp_path / "fp32.pt2.json").write_text(json.dumps(side_car))
    with pytest.raises(
        SIVTError, match=r"cannot be opened: it does not end in scores, maps and descriptors\. Export it again\."
    ):
        Predictor(path)


@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.xml", "fp32.pt2"])
def test_a_model_may_be_renamed_with_its_files(name: str, folder: Path, photos: list[Path], tmp_path: Path) -> None:
    copied(folder, name, tmp_path)
    for file in list(tmp_path.iterdir()):
        file.rename(file.with_name(file.name.replace("fp32", "line 2.b")))
    suffix = Path(name).suffix
    renamed = Predictor(tmp_path / f"line 2.b{suffix}")(photos[0])
    assert renamed.score == Predictor(folder / name)(photos[0]).score
    foreign = tmp_path / f"line 2.b{suffix}.json"
    other = "bf16" if suffix == ".pt2" else "int8"
    foreign.write_bytes((folder / f"{other}{suffix}.json").read_bytes())
    with pytest.raises(SIVTError, match=r"line 2\.b\.(bin|onnx|pt2) is not the file"):
        Predictor(tmp_path / f"line 2.b{suffix}")


@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.xml", "fp32.pt2"])
def test_the_case_of_a_suffix_does_not_matter(name: str, folder: Path, photos: list[Path], tmp_path: Path) -> None:
    path = copied(folder, name, tmp_path)
    upper = tmp_path / f"Model A{path.suffix.upper()}"
    (tmp_path / f"{name}.json").rename(tmp_path / f"{upper.name}.json")
    path.rename(upper)
    if (weights := path.with_suffix(".bin")).exists():
        weights.rename(upper.with_suffix(".bin"))
    assert Predictor(upper)(photos[0]).score == Predictor(folder / name)(photos[0]).score


def test_a_model_renamed_alone_lacks_its_files(folder: Path, tmp_path: Path) -> None:
    path = copied(folder, "fp32.xml", tmp_path)
    (tmp_path / "fp32.xml.json").rename(tmp_path / "line.xml.json")
    with pytest.raises(SIVTError, match=r"line\.bin is missing"):
        Predictor(path.rename(tmp_path / "line.xml"))
    (tmp_path / "none.onnx").mkdir()
    with pytest.raises(SIVTError, match="it is a folder"):
        Predictor(tmp_path / "none.onnx")


def test_a_runtime_that_fails_without_a_word_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(pytest.importorskip("onnxruntime"), "InferenceSession", fail)
    with pytest.raises(SIVTError, match=r"cannot be opened: RuntimeError\. Export"):
        Predictor(folder / "fp32.onnx")


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


@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.xml"])
def test_ctrl_c_is_no_crash_after_two_models_of_a_runtime_have_gone(name: str, folder: Path) -> None:
    done = Forked(str(folder / name), code=INTERRUPTED).wait()
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_settings_that_a_file_has_not_are_refused(folder: Path) -> None:
    with pytest.raises(SIVTError, match="there is no such file"):
        Predictor(folder / "none.onnx")
    for name in ("fp32.onnx", "fp32.xml", "fp32.pt2"):
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
        (["--format", "torch", "--calibration", "data", "--keep_thresholds"], "nothing is measured"),
        (["--format", "torch", "--calibration", "."], "there are none: "),
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


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (shutil.rmtree, r"data is no folder\. Name .*--calibration, or .*--keep_thresholds"),
        (lambda root: shutil.rmtree(root / "down"), "has no photos of down"),
        (lambda root: [(root / f"down/train/good/00{i}.png").unlink() for i in range(6)], "of down, 1 photos would"),
        (lambda root: [path.write_text("") for path in root.glob("down/train/good/*")], "cannot be read"),
    ],
)
def test_without_the_photos_of_the_training_nothing_is_exported(
    change: Callable[[Path], object],
    sentence: str,
    folder: Path,
    twins: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(graph, "save_torch", lambda detector, precision, path, residual: path.write_bytes(b""))
    monkeypatch.setattr("sivt_lightning.export.model_files.open_model", lambda _: opened(folder / "best.ckpt"))
    root = tmp_path / "data"
    shutil.copytree(twins, root)
    contents = torch.load(folder / "best.ckpt", weights_only=True)
    contents["datamodule_hyper_parameters"]["root"] = str(root)
    torch.save(contents, tmp_path / "best.ckpt")
    arguments = ["export", "--ckpt_path", str(tmp_path / "best.ckpt"), "--format", "torch"]
    assert main([*arguments, "--output", str(tmp_path / "before.pt2")]) == 0
    change(root)
    capsys.readouterr()
    assert main(arguments) == 1
    assert re.search(sentence, capsys.readouterr().err)
    assert not (tmp_path / "best.pt2").exists()
    # Where the data set lies now; another one beside it does not matter.
    shutil.copytree(twins, tmp_path / "moved")
    shutil.copytree(twins / "down", tmp_path / "moved/third")
    assert main([*arguments, "--calibration", str(tmp_path / "moved")]) == 0
    assert f"Thresholds are of good photos in {tmp_path / 'moved'}, by the scores" in capsys.readouterr().out
    assert calibration_of(tmp_path / "best.pt2").products == calibration_of(tmp_path / "before.pt2").products


@pytest.fixture(scope="module")
def good(twins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good photos of one of the products, and a list of them."""
    folder = tmp_path_factory.mktemp("good") / "photos"
    shutil.copytree(twins / "down/train/good", folder / "down")
    rows = [f"photos/down/{photo.name},down,good" for photo in sorted((folder / "down").iterdir())]
    (folder.parent / "list.csv").write_text("\n".join(["path,product,label", *rows]))
    return folder


@pytest.mark.parametrize("given", ["photos", "list.csv"])
def test_an_export_is_calibrated_with_the_photos_of_its_checkpoints_calibration(
    given: str,
    folder: Path,
    good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, model = good.parent / given, tmp_path / "new.ckpt"
    told = ["calibrate", "--ckpt_path", str(folder / "best.ckpt"), "--good", str(source), "--output", str(model)]
    assert main(told) == 0
    monkeypatch.setattr(graph, "save_torch", lambda detector, precision, path, residual: path.write_bytes(b""))
    monkeypatch.setattr("sivt_lightning.export.model_files.open_model", lambda _: opened(model))
    assert main(["export", "--ckpt_path", str(model), "--format", "torch"]) == 0
    by = f"good photos in {source}, by the scores of this file in torch {importlib.metadata.version('torch')}"
    said = f"Thresholds are of {by}; of across, which are not there, by the scores of the checkpoint."
    assert said in capsys.readouterr().out
    ours, theirs, before = (calibration_of(path) for path in (model.with_suffix(".pt2"), model, folder / "best.ckpt"))
    assert ours.products == theirs.products
    assert ours.products["across"] == before.products["across"] != ours.products["down"]
    assert ours.source == str(source)
    photos = GoodPhotos.again(read_about(str(model)))
    assert [len(images) for images in photos.scaling()] == [8, 2]  # int8 is scaled by these, too
    moved = tmp_path / "moved"
    source.rename(moved)
    try:
        assert main(["export", "--ckpt_path", str(model), "--format", "torch", "--overwrite"]) == 1
    finally:
        moved.rename(source)
    said = (
        f"calibrated with good photos in {source}, which is not there. Name where they are now with --calibration, or"
    )
    assert said in capsys.readouterr().err


def test_photos_whose_product_was_told_cannot_be_read_again(
    folder: Path, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(good / "down", tmp_path / "monday")
    told = ["calibrate", "--ckpt_path", str(folder / "best.ckpt"), "--good", str(tmp_path / "monday")]
    assert main([*told, "--category", "down", "--output", str(tmp_path / "new.ckpt")]) == 0
    assert main(["export", "--ckpt_path", str(tmp_path / "new.ckpt"), "--format", "torch"]) == 1
    assert "which lie there as monday: what they show was told with --category. Name" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["fp32.onnx", "fp32.xml"])
def test_an_export_can_be_calibrated_whatever_it_is_called(name: str, folder: Path, good: Path, tmp_path: Path) -> None:
    path = copied(folder, name, tmp_path)
    upper = path.rename(tmp_path / f"Line 2.b{path.suffix.upper()}")
    (tmp_path / f"{name}.json").rename(f"{upper}.json")
    if (weights := path.with_suffix(".bin")).exists():
        weights.rename(upper.with_suffix(".bin"))
    new = tmp_path / f"new{upper.suffix}"
    assert main(["calibrate", "--ckpt_path", str(upper), "--good", str(good), "--output", str(new)]) == 0
    photo = good / "down/000.png"
    assert Predictor(new)(photo).score == Predictor(upper)(photo).score
    assert calibration_of(new).source == str(good)
    assert json.loads(Path(f"{new}.json").read_text())["calibrated_on"] == f"good photos in {good}, by this file"


def test_photos_have_the_depth_that_the_model_knows_of(folder: Path) -> None:
    about = of_checkpoint(read_checkpoint(str(folder / "best.ckpt")))
    for depth in ("bytes", 12, None):
        data = GoodPhotos.of_training(replace(about, depth=depth)).data  # type: ignore[arg-type]
        assert (data.train_set.depth, data.val_set.depth) == (depth, depth)


def test_thresholds_far_from_the_checkpoints_are_refused(folder: Path, twins: Path) -> None:
    about = of_checkpoint(read_checkpoint(str(folder / "best.ckpt")))
    own = calibration_of(folder / "best.ckpt")
    down = own.products["down"]
    moved = replace(down, score=replace(down.score, values=[1.2 * value for value in down.score.values]))
    other = replace(own, products=own.products | {"down": moved})
    same, chosen = GoodPhotos.of_training(about), GoodPhotos.of_training(about, str(twins))
    refuse_far(own, own, same)
    refuse_far(replace(other, source=chosen.source), own, chosen)  # other photos, which somebody has chosen
    with pytest.raises(SIVTError, match=r"The threshold of down is .* has changed since it was calibrated"):
        refuse_far(other, own, same)


def test_a_package_that_is_missing_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, extra, file in (("onnxruntime", "onnx", "fp32.onnx"), ("openvino", "openvino", "fp32.xml")):
        monkeypatch.setitem(sys.modules, name, None)
        assert main(["export", "--ckpt_path", str(folder / "best.ckpt"), "--format", extra]) == 1
        assert f"pip install 'sivt-lightning[{extra}]'" in capsys.readouterr().err
        with pytest.raises(SIVTError, match=rf"sivt-lightning\[{extra}\]"):
            Predictor(folder / file)


def test_the_script_in_deployment_needs_three_packages_only(folder: Path, photos: list[Path], tmp_path: Path) -> None:
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
    script = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "onnxruntime" in block)
    (tmp_path / "score.py").write_text(script)
    path = photos[0].parent / "sideways.jpg"
    image = Image.open(photos[0]).convert("RGB")
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / path.name, exif=turned)
    verdicts = []
    for photo in (photos[0], tmp_path / path.name, photos[-1]):
        told = [python, tmp_path / "score.py", folder / "fp32.onnx", photo]
        done = subprocess.run(told, capture_output=True, text=True, check=True, cwd=tmp_path)
        right = Predictor(folder / "fp32.onnx")(photo)
        product, score, verdict = done.stdout.split()
        assert float(score) == pytest.approx(right.score, rel=1e-4)
        assert verdict == right.verdict
        assert product == right.product or verdict == "unknown"
        verdicts.append(verdict)
    assert len(set(verdicts)) > 1
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / name)
        told = [python, tmp_path / "score.py", folder / "fp32.onnx", tmp_path / name]
        done = subprocess.run(told, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 1
        assert f"{name}: more than 8 bits" in done.stderr
