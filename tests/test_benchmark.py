"""`sivt benchmark`: the counts are right, the times are of what they say, and all of it is in the JSON."""

import json
import shutil
from pathlib import Path
from typing import Any

import literal
import pytest
import torch
import yaml
from parts import reconstructor_of
from torch.utils.flop_counter import FlopCounterMode

from sivt_lightning.benchmark import steps as training
from sivt_lightning.benchmark.counts import as_drawn, count_parameters, multiply_adds
from sivt_lightning.benchmark.machine import Machine
from sivt_lightning.benchmark.steps import PARTS
from sivt_lightning.cli import main
from sivt_lightning.data.demo import SMALLEST, write_demo_data
from sivt_lightning.model.partition import draw_partition
from sivt_lightning.training.module import SIVT

QUICK = ["--seconds", "0.01", "--batch_sizes", "[1,2]", "--device", "cpu"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "GROWTH", {"groups": (2, 4), "patch_size": (1, 3), "batch_size": (2,)})


def run(*args: str) -> dict[str, Any]:
    assert main(["benchmark", *QUICK, "--json", "cost.json", *args]) == 0
    report: dict[str, Any] = json.loads(Path("cost.json").read_text())
    return report


def test_the_paper_s_model() -> None:
    module = SIVT()
    assert count_parameters(module)["trainable"] == 14_595_248
    assert count_parameters(module)["frozen"] == sum(p.numel() for p in module.detector.backbone.parameters())
    counts = multiply_adds(module.detector)
    # Each of 4 x 256 tokens in 12 blocks and 256 in 8 blocks: 12 D^2; embedding and head.
    width, patch = 240, 4 * 272
    assert counts["linear"] == 12 * width**2 * (12 * 1024 + 8 * 256) + 2 * 256 * width * patch
    assert counts["attention"] == 2 * width * 256 * (12 * 1024 + 8 * 256)
    assert counts["reconstructor"] == counts["linear"] + counts["attention"]
    assert 0.94 < counts["reconstructor_fast"] / counts["reconstructor"] < 0.97
    assert 1.1e9 < counts["backbone"] < 1.3e9
    assert counts["memory_bank"] == 32 * 32 * (272 * 64 + 64 * 4096)  # to 64 directions, then to each vector
    assert multiply_adds(SIVT(memory_bank=0).detector)["memory_bank"] == 0


def test_the_model_of_edge_yaml() -> None:
    """As docs/performance.md has it."""
    settings = yaml.safe_load((Path(__file__).parents[1] / "configs/edge.yaml").read_text())["model"]
    detector = SIVT(**settings | {"weights": "random"}).detector
    assert count_parameters(detector) == {"trainable": 557_952, "frozen": 700_768}
    counts = multiply_adds(detector)
    assert counts["backbone"] == 317_739_008
    assert counts["reconstructor_fast"] == 206_045_184
    assert counts["memory_bank"] == 79_691_776


@pytest.mark.parametrize(
    "changes", [{}, {"groups": 3, "mlp_ratio": 2.6}, {"self_induction": False}, {"decoder_depth": 0}, {"patch_size": 1}]
)
def test_what_is_drawn_is_what_torch_counts_of_it(changes: dict[str, Any]) -> None:
    shape: dict[str, Any] = {"width": 16, "heads": 2, "encoder_depth": 2, "decoder_depth": 1} | changes
    model = reconstructor_of(5, 8, **shape)
    partition = draw_partition(model.length, model.groups, torch.Generator())[None]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        literal.reconstruct(model, torch.zeros(1, 5, 8, 8), partition)
    counts = {str(name): flops // 2 for name, flops in counter.get_flop_counts()["Global"].items()}
    attention = sum(count for name, count in counts.items() if "bmm" in name)
    assert as_drawn(model) == {"linear": sum(counts.values()) - attention, "attention": attention}


def test_the_report(tiny_config: Path) -> None:
    report = run("--config", str(tiny_config), "--growth", "true")
    assert report["parameters"]["trainable"] > 0
    assert [row["batch_size"] for row in report["inference"]] == [1, 2]
    for row in report["inference"]:
        assert row["images_per_s"] == pytest.approx(1e3 * row["batch_size"] / row["ms"])
    assert [row["cache"] for row in report["training"]] == ["plain", "off", "memory", "disk"]
    for row in report["training"]:
        assert tuple(row["ms"]) == PARTS
        assert row["images_per_s"] == pytest.approx(1e3 * report["batch_size"] / sum(row["ms"].values()))
        assert row["hours_of_the_paper"] == pytest.approx(400 * 3629 / row["images_per_s"] / 3600)
    uncached, kept = report["training"][1], report["training"][2]
    assert kept["ms"]["features"] < uncached["ms"]["features"] / 2
    settings = [(row["setting"], row["value"]) for row in report["growth"]]
    assert settings == [("groups", 2), ("groups", 4), ("patch_size", 1), ("patch_size", 3), ("batch_size", 2)]
    assert "patch_size 3" in report["growth"][3]["error"]
    few, many = report["growth"][:2]
    assert few["multiply_adds"] < many["multiply_adds"]


def test_a_checkpoint_s_settings_are_measured(tiny_config: Path) -> None:
    fit = ["fit", "--config", str(tiny_config), "--trainer.max_epochs", "1", "--trainer.precision", "bf16-mixed"]
    assert main([*fit, "--model.width", "24"]) == 0
    report = run("--ckpt_path", "runs/tiny/version_0/checkpoints/last.ckpt")
    assert report["model"]["width"] == 24
    assert report["machine"]["precision"] == "bf16-mixed"
    assert [row["precision"] for row in report["training"]] == ["32-true", *["bf16-mixed"] * 3]
    assert report["batch_size"] == 4


def test_without_data_there_are_generated_ones(
    tiny_config: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(root: Path, *given: Any, **counts: int) -> None:
        if not (tmp_path / "demo").exists():
            write_demo_data(tmp_path / "demo", *given, size=SMALLEST, **counts)
        shutil.copytree(tmp_path / "demo", root)

    assert run("--config", str(tiny_config))["images"] == str(tiny_data)
    monkeypatch.setattr(training, "write_demo_data", once)
    for root in ("null", "/nowhere"):
        report = run("--config", str(tiny_config), "--data.root", root)
        assert report["images"].startswith("those of sivt demo-data")
        assert (root in report["images"]) == (root != "null")
        assert report["training"][1]["ms"]["data"] > 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--trainer.precision", "8"], "precision 8: choose one of"),
        (["--trainer.precision", "16-mixed"], "needs a GPU"),
        (["--device", "abacus"], "device abacus: choose cpu or auto"),
        (["--data.categories", "[nut]"], "nut"),
        (["--data.batch_size", "19"], "has 18 training images, fewer than data.batch_size"),
        (["--ckpt_path", "none.ckpt"], "none.ckpt: there is no such file"),
        (["--json", "/proc/none/cost.json"], "Cannot write into /proc/none"),
        (["--seconds", "0"], "seconds"),
        (["--batch_sizes", "[0]"], "batch_sizes"),
    ],
)
def test_wrong_settings_are_a_sentence(
    options: list[str], named: str, tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", "--config", str(tiny_config), *QUICK, *options]) == 1
    assert named in capsys.readouterr().err


def test_peak_memory_is_that_of_the_call() -> None:
    machine = Machine(torch.device("cpu"), "32-true", 0.0)
    machine.reset_peak()
    before = machine.peak_bytes()
    if before is None:
        pytest.skip("this system does not tell a process' peak memory")
    torch.ones(50_000_000)
    peak = machine.peak_bytes()
    assert peak is not None
    assert 190e6 < peak - before < 260e6
    machine.reset_peak()
    after = machine.peak_bytes()
    assert after is not None
    assert after < peak - 150e6
