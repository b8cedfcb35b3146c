"""The Python API: what `sivt predict` says, for whatever a caller holds in hand, without Lightning."""

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from conftest import rows_of
from PIL import Image

from sivt_lightning import Prediction, Predictor, SIVTError
from sivt_lightning.cli import main
from sivt_lightning.inference.prediction import Region, find_regions


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Predictor:
    return Predictor(checkpoint, device="cpu")


@pytest.fixture
def photo(tiny_data: Path) -> Path:
    return tiny_data / "across/test/square/000.png"


def test_it_says_what_predict_says(predictor: Predictor, checkpoint: Path, tiny_data: Path, tmp_path: Path) -> None:
    folder = tiny_data / "across/test"
    arguments = ["--ckpt_path", str(checkpoint), "--data.predict_path", str(folder), "--output", str(tmp_path)]
    assert main(["predict", *arguments, "--writer.maps", "true"]) == 0
    rows = rows_of(tmp_path / "predictions.csv")
    predictions = predictor([folder / row["path"] for row in rows])
    assert len(predictions) == len(rows) == 6
    for one, row in zip(predictions, rows, strict=True):
        assert one.score == pytest.approx(float(row["score"]), rel=1e-5)
        assert one.threshold == pytest.approx(float(row["threshold"]))
        assert one.is_anomalous == (row["is_anomalous"] == "true")
        assert one.mask.mean() == pytest.approx(float(row["anomalous_share"]), rel=1e-5)
        np.testing.assert_allclose(one.anomaly_map, np.asarray(Image.open(tmp_path / row["map"])), rtol=1e-3, atol=1e-3)


def test_an_image_may_come_in_any_form(predictor: Predictor, checkpoint: Path, photo: Path) -> None:
    image = Image.open(photo)
    grey = np.asarray(image)
    coloured = np.repeat(grey[..., None], 3, 2)
    opaque = np.concatenate([coloured, np.full_like(grey, 255)[..., None]], 2)
    forms = [photo, str(photo), image, grey, grey[..., None], coloured, opaque]
    content = photo.read_bytes()
    forms += [coloured / np.float32(255), content, bytearray(content), io.BytesIO(content)]
    forms += [torch.from_numpy(coloured).permute(2, 0, 1), torch.from_numpy(grey)[None] / 255]
    scores = [prediction.score for prediction in predictor(forms)]
    assert scores == pytest.approx([scores[0]] * len(forms), rel=1e-5)
    assert isinstance(predictor(image), Prediction)
    assert predictor([]) == []
    assert image.size == (40, 40)  # and as it was
    deep = Predictor(checkpoint, device="cpu", depth=16)(grey.astype(np.uint16) * 257)
    assert deep.score == pytest.approx(scores[0], rel=1e-5)


def test_what_is_no_image_is_refused_with_a_sentence(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no image")
    bad = [np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8), np.zeros((4, 4), np.int64), np.zeros(4, np.uint8)]
    for array in bad:
        with pytest.raises(SIVTError, match="is no image"):
            predictor(array)
    with pytest.raises(SIVTError, match="from 0 to 300"):
        predictor(np.linspace(0, 300, 16, dtype=np.float32).reshape(4, 4))
    with pytest.raises(SIVTError, match=r"notes\.png cannot be read"):
        predictor([tmp_path / "notes.png"])
    with pytest.raises(SIVTError, match="it is a folder"):
        predictor(tmp_path)
    for content in (b"", b"no image"):
        with pytest.raises(SIVTError, match="The image cannot be read"):
            predictor(content)


def test_random_numbers_are_left_to_the_caller(checkpoint: Path, photo: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    Predictor(checkpoint, device="cpu")(photo)
    assert torch.equal(torch.rand(3), expected)


def test_thresholds_can_be_chosen(checkpoint: Path, photo: Path) -> None:
    assert Predictor(checkpoint, threshold=0.0)(photo).is_anomalous
    assert Predictor(checkpoint, threshold=1e9, unknown=False)(photo).verdict == "normal"
    of_category = Predictor(checkpoint, category="down")
    calibration = of_category.model.about.calibration
    assert calibration is not None
    down = calibration.products["down"]
    found = of_category(photo)
    assert (found.threshold, found.pixel_threshold) == (down.score.threshold(0.05), down.peak.threshold(0.05))
    for share in (0.2, 0.01):
        found = Predictor(checkpoint, category="down", false_alarms=share)(photo)
        assert (found.threshold, found.pixel_threshold) == (down.score.threshold(share), down.peak.threshold(share))
    with pytest.raises(SIVTError, match="no threshold for category 'bolt'"):
        Predictor(checkpoint, category="bolt")


def test_products_are_recognised_in_a_mixed_batch(predictor: Predictor, tiny_data: Path) -> None:
    photos = [tiny_data / f"{name}/train/good/00{i}.png" for i in range(8) for name in ("down", "across")]
    found = predictor(photos)
    assert [one.product for one in found] == ["down", "across"] * 8
    thresholds = {name: predictor.judge.threshold(name).image for name in ("down", "across")}
    for one in found:
        assert one.threshold == thresholds[one.product or ""]
        assert one.calibrated is not None
        assert one.verdict == ("anomalous" if one.calibrated > -np.log10(0.05) else "normal")
        assert (one.verdict == "anomalous") == (one.score > one.threshold) == one.is_anomalous
        if one.verdict == "normal":
            assert (one.regions, one.mask.any()) == ([], False)


def test_what_is_none_of_the_products_has_not_passed(checkpoint: Path, predictor: Predictor) -> None:
    strange = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    found = predictor(strange)
    assert (found.verdict, found.product, found.is_anomalous) == ("unknown", None, True)
    assert Predictor(checkpoint, "cpu", category="down")(strange).verdict == "unknown"
    taken = Predictor(checkpoint, "cpu", unknown=False)(strange)
    assert taken.verdict != "unknown"
    assert taken.product in ("across", "down")
    assert (taken.score, taken.calibrated) == (found.score, found.calibrated)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": "abacus"}, "no such device"),
        ({"device": "cuda:99"}, "no such device"),
        ({"device": "meta"}, "no such device"),
        ({"precision": "16-mixed", "device": "cpu"}, "needs a GPU"),
        ({"precision": "8"}, "choose one of"),
        ({"batch_size": 0}, "give 1 or more"),
        ({"threshold": -1.0}, "scores are 0 or more"),
        ({"false_alarms": 0.0}, "give the share of good parts"),
        ({"false_alarms": 1.0}, "give the share of good parts"),
        ({"false_alarms": 0.1, "threshold": 3.0}, "give one"),
    ],
)
def test_bad_settings(checkpoint: Path, settings: dict, said: str) -> None:
    with pytest.raises(SIVTError, match=said):
        Predictor(checkpoint, **settings)


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("touch owned",)


def test_a_malicious_checkpoint_is_refused_without_being_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, "evil.ckpt")
    Path("plain.ckpt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.ckpt", "plain.ckpt"):
        with pytest.raises(SIVTError, match="not loaded"):
            Predictor(name)
        assert main(["predict", "--ckpt_path", name, "--data.predict_path", "."]) == 1
    assert not Path("owned").exists()


def test_opening_a_checkpoint_builds_the_network_once(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, built = timm.create_model, []

    def create(*args: Any, **kwargs: Any) -> Any:
        network = whole(*args, **kwargs)
        built.append(next(network.parameters()).device.type)
        return network

    monkeypatch.setattr(timm, "create_model", create)
    Predictor(checkpoint, device="cpu")
    assert built == ["meta", "cpu"]  # on no device it is asked for its strides, without weights


@pytest.fixture(scope="module")
def of_a_stranger(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose backbone lies on the internet."""
    contents = torch.load(checkpoint, weights_only=True)
    contents["hyper_parameters"]["backbone"] = "hf-hub:somebody/model"
    path = tmp_path_factory.mktemp("stranger") / "best.ckpt"
    torch.save(contents, path)
    return path


@pytest.mark.parametrize(
    "command",
    [
        "test --ckpt_path MODEL",
        "predict --ckpt_path MODEL --data.predict_path DATA",
        "export --ckpt_path MODEL --format torch",
        "serve --model MODEL --port 0",
        "benchmark --ckpt_path MODEL",
        "fit --model.init_from MODEL --data.root DATA",
        "fit --model.backbone hf-hub:somebody/model --data.root DATA",
    ],
)
@pytest.mark.usefixtures("no_network")
def test_no_command_asks_the_internet_for_a_backbone(
    command: str,
    of_a_stranger: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command.replace("MODEL", str(of_a_stranger)).replace("DATA", str(tiny_data)).split()) == 1
    assert "backbone hf-hub:somebody/model is not known to timm" in capsys.readouterr().err


@pytest.mark.usefixtures("no_network")
def test_nor_does_a_predictor(of_a_stranger: Path) -> None:
    with pytest.raises(SIVTError, match="not known to timm"):
        Predictor(of_a_stranger)


@pytest.mark.parametrize(
    "command",
    [
        "test --ckpt_path MODEL",
        "predict --ckpt_path MODEL --data.predict_path .",
        "export --ckpt_path MODEL --format torch",
        "fit --ckpt_path MODEL",
        "fit --model.init_from MODEL",
        "serve --model MODEL --port 0",
    ],
)
def test_a_folder_given_as_checkpoint_is_called_one(
    command: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = checkpoint.parents[1]
    for folder in (run / "checkpoints", run, run.parent, run.parents[1]):
        assert main(command.replace("MODEL", str(folder)).split()) == 1
        output = capsys.readouterr().err
        assert (
            f"{folder}: it is a folder. Give the file: {checkpoint} or {checkpoint.with_name('last.ckpt')}." in output
        )
    assert main(command.replace("MODEL", str(tmp_path)).split()) == 1
    assert "it is a folder. Give the file: best.ckpt in the checkpoints folder of a run." in capsys.readouterr().err


def test_of_several_runs_in_a_folder_the_last_is_named(tmp_path: Path) -> None:
    for version, saved in ((0, 20), (1, 30), (2, 10)):
        path = tmp_path / f"version_{version}/checkpoints/best.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (saved, saved))
    with pytest.raises(SIVTError, match=r"Give the file: \S+version_1/checkpoints/best\.ckpt\.$"):
        Predictor(tmp_path)


def test_it_needs_no_lightning_and_says_what_it_takes(checkpoint: Path, photo: Path) -> None:
    code = f"""
import sys
from sivt_lightning import Predictor, SIVTError
predictor = Predictor({str(checkpoint)!r})
predictor({str(photo)!r}).regions
assert 'lightning' not in sys.modules
for other in (None, 3, [3], {{"a": 1}}, [None]):  # here, for pytest's own checks of types would come first
    try:
        predictor(other)
    except SIVTError as error:
        assert 'is no image: give' in str(error), error
    else:
        raise AssertionError(other)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_regions_are_in_the_photos_own_pixels() -> None:
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[1, 1] = anomaly_map[2, 2] = 3.0  # touch at a corner
    anomaly_map[6, 4:7] = 5.0
    assert find_regions(anomaly_map, 1.0, (16, 8)) == [Region((8, 6, 14, 7), 6, 5.0), Region((2, 1, 6, 3), 4, 3.0)]
    assert find_regions(anomaly_map, 9.0, (16, 8)) == []
    (tiny,) = find_regions(anomaly_map * (anomaly_map > 4), 1.0, (3, 3))  # a photo smaller than the map
    assert tiny == Region((1, 2, 3, 3), 1, 5.0)


@pytest.mark.parametrize("side", [1, 3, 32, 100, 224, 384])
def test_a_box_holds_what_the_maps_pixels_stand_for_and_lies_in_the_photo(side: int) -> None:
    generator = np.random.default_rng(side)
    for width in [*range(1, 400), *generator.integers(400, 6000, 100).tolist()]:
        size = (width, int(generator.integers(1, 6000)))
        starts = generator.integers(0, side, 2).tolist()
        stops = [int(generator.choice([side, generator.integers(start + 1, side + 1)])) for start in starts]
        anomaly_map = np.zeros((side, side), np.float32)
        anomaly_map[starts[1] : stops[1], starts[0] : stops[0]] = 1
        (region,) = find_regions(anomaly_map, 0.5, size)
        for near, far, start, stop, photo in zip(region.box[:2], region.box[2:], starts, stops, size, strict=True):
            assert 0 <= near < far <= photo
            # The map's pixel `start` begins at the photo's start * photo / side: within the box's first pixel.
            assert near * side <= start * photo < (near + 1) * side
            assert (far - 1) * side < stop * photo <= far * side


def test_settings_that_are_none_are_a_sentence(checkpoint: Path, tmp_path: Path) -> None:
    stored = torch.load(checkpoint, weights_only=True)
    for number, changed in enumerate(({"backbone": 5}, {"strides": "four"}, {"width": None}, {"heads": 0})):
        torch.save(stored | {"hyper_parameters": stored["hyper_parameters"] | changed}, tmp_path / f"{number}.ckpt")
    code = f"""
from sivt_lightning import Predictor, SIVTError
for number in range(4):  # in a process of their own, for pytest's checks of types would come first
    try:
        Predictor({str(tmp_path)!r} + f"/{{number}}.ckpt")
    except SIVTError:
        continue
    raise AssertionError(number)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
