"""Files of earlier versions go on giving what they gave; those of later ones are refused."""

import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sivt_lightning import Predictor, SIVTError
from sivt_lightning.cli import main
from sivt_lightning.inference import checkpoint, checkpoint_model, formats
from sivt_lightning.inference.checkpoint import read_checkpoint
from sivt_lightning.inference.formats import FORMAT
from sivt_lightning.model import settings
from sivt_lightning.model.settings import ModelSettings, names_of, setting
from sivt_lightning.training import module

DATA = Path(__file__).parent / "data"
FORMAT_0 = DATA / "format_0.ckpt"


@dataclass(frozen=True)
class LaterSettings(ModelSettings):
    """Of a version to come. Without the value of before, models of today would have the new default."""

    made_up: int = setting(3, "map", since=FORMAT + 1, before=7)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.made_up == 3:
            raise SIVTError("a model of today's is not of this kind")


def photo(number: int) -> np.ndarray:
    rows, columns = np.mgrid[:48, :40]
    return np.stack([(columns * (3 + number) + rows * step) % 251 for step in (2, 5, 7)], -1).astype(np.uint8)


def changed(tmp_path: Path, **changes: Any) -> Path:
    contents = torch.load(FORMAT_0, weights_only=True)
    for name, value in changes.items():
        contents[name] = value(contents[name]) if callable(value) else value
    path = tmp_path / "changed.ckpt"
    torch.save(contents, path)
    return path


def test_a_checkpoint_of_format_0_gives_the_scores_it_gave() -> None:
    recorded = json.loads((DATA / "format_0.json").read_text())
    predictions = Predictor(FORMAT_0, "cpu")([photo(number) for number in range(4)])
    assert [each.score for each in predictions] == pytest.approx(recorded["scores"], rel=1e-4)
    assert [each.anomaly_map.max() for each in predictions] == pytest.approx(recorded["highest"], rel=1e-4)
    assert {each.threshold for each in predictions} == {recorded["threshold"]}
    assert {each.pixel_threshold for each in predictions} == {recorded["pixel_threshold"]}


def test_it_recognises_nothing_until_it_is_calibrated(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = json.loads((DATA / "format_0.json").read_text())
    before = Predictor(FORMAT_0, "cpu")(photo(0))
    assert (before.verdict, before.product, before.calibrated) == ("anomalous", None, None)
    with pytest.raises(SIVTError, match=r"false_alarms 0\.01: .*`sivt calibrate --ckpt_path FILE` adds it"):
        Predictor(FORMAT_0, "cpu", false_alarms=0.01)
    predict = ["predict", "--ckpt_path", str(FORMAT_0), "--data.predict_path", str(tiny_data)]
    assert main([*predict, "--output", str(tmp_path / "out"), "--threshold_by", "product"]) == 1
    assert "threshold_by product: The model's file has no calibration" in capsys.readouterr().err

    model = tmp_path / "new.ckpt"
    told = ["calibrate", "--ckpt_path", str(FORMAT_0), "--good", str(tiny_data), "--add", "--output", str(model)]
    assert main(told) == 0
    assert torch.load(model, weights_only=True)["format_number"] == FORMAT
    predictor = Predictor(model, "cpu")
    good = [tiny_data / f"{name}/train/good/{i:03}.png" for i in range(5) for name in ("across", "down")]
    assert [each.product for each in predictor(good)] == ["across", "down"] * 5
    scores = [each.score for each in predictor([photo(number) for number in range(4)])]
    assert scores == pytest.approx(recorded["scores"], rel=1e-4)
    assert predictor(photo(0)).verdict == "unknown"  # neither across nor down


def test_it_is_small_and_says_no_format() -> None:
    assert FORMAT_0.stat().st_size < 300_000
    assert "format_number" not in torch.load(FORMAT_0, weights_only=True)


def test_what_one_trains_today_says_its_format_and_outlives_a_new_setting(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", str(tiny_config), "--trainer.max_epochs", "1"]) == 0
    best = next(Path("runs").rglob("best.ckpt"))
    assert torch.load(best, weights_only=True)["format_number"] == FORMAT
    before = [each.score for each in Predictor(best, "cpu")([photo(0), photo(1)])]

    for place in (settings, module, checkpoint_model):
        monkeypatch.setattr(place, "ModelSettings", LaterSettings)
    monkeypatch.setattr(formats, "FORMAT", FORMAT + 1)
    monkeypatch.setattr(module, "FORMAT", FORMAT + 1)
    assert read_checkpoint(str(best))["hyper_parameters"]["made_up"] == 7
    assert [each.score for each in Predictor(best, "cpu")([photo(0), photo(1)])] == before
    assert main(["test", "--ckpt_path", str(best)]) == 0
    last = best.with_name("last.ckpt")
    assert main(["fit", "--ckpt_path", str(last), "--trainer.max_epochs", "2"]) == 0
    later = torch.load(last, weights_only=True)
    assert later["format_number"] == FORMAT + 1
    assert later["hyper_parameters"]["made_up"] == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format_number": FORMAT + 1}, rf"format is {FORMAT + 1}, and this version of sivt_lightning reads up to"),
        ({"format_number": "1"}, "format is 1, and this version"),
        ({"hyper_parameters": lambda stored: {k: v for k, v in stored.items() if k != "width"}}, "did not say width"),
        ({"hyper_parameters": lambda stored: stored | {"colour": 1}}, "whose colour is not known here"),
        ({"hyper_parameters": lambda stored: stored | {"width": "wide"}}, "its settings are damaged"),
        ({"hyper_parameters": lambda stored: stored | {"map_power": -1.0}}, "map_power is -1"),
        ({"hyper_parameters": None}, "its hyper_parameters is damaged"),
        (
            {"datamodule_hyper_parameters": [1], "training": None},
            "its datamodule_hyper_parameters, training is damaged",
        ),
        ({"state_dict": None}, "its state_dict is damaged"),
        ({"calibration": 3}, r"calibration is damaged \(.*: calibrate it again"),
        ({"calibration": []}, r"calibration is damaged \(.*: calibrate it again"),
        ({"calibration": {"products": {"gear": {"score": {}}}}}, r"calibration is damaged \(.*: calibrate it again"),
        ({"thresholds": {}}, "The model's thresholds are damaged"),
        ({"thresholds": None}, r"holds no thresholds, .* or add them: sivt calibrate --ckpt_path .*changed\.ckpt"),
    ],
)
def test_what_cannot_be_read_says_why(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(SIVTError, match=said):
        Predictor(changed(tmp_path, **changes), "cpu")


def test_settings_of_the_data_that_a_file_cannot_say(tmp_path: Path) -> None:
    path = changed(
        tmp_path, datamodule_hyper_parameters=lambda stored: {k: v for k, v in stored.items() if k != "depth"}
    )
    assert read_checkpoint(str(path))["datamodule_hyper_parameters"]["depth"] is None
    assert read_checkpoint(str(path)).keys() >= checkpoint.CONTENTS


def test_every_setting_of_a_later_format_says_what_was_before() -> None:
    for each in fields(ModelSettings):
        assert each.metadata["since"] <= FORMAT
        assert each.metadata["since"] == 0 or each.metadata["before"] is not MISSING


def test_roles_leave_no_setting_out() -> None:
    roles = {each.metadata["role"] for each in fields(ModelSettings)}
    assert sorted(names_of(*roles)) == sorted(asdict(ModelSettings()))
