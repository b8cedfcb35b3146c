"""Several processes, on one machine and on two, do what one does."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import torch
import yaml
from conftest import Watched, rows_of, write_tiny_data
from forked import Forked, run, run_two, together

from sivt_lightning.cli import main

# Two steps of the command line's own objects; keeps the gradients and partitions of each.
STEPS = """
import sys, torch
from lightning.pytorch import Callback, Trainer
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.training.module import SIVT

class Keep(Callback):
    kept = {}
    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.kept[trainer.global_step] = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}

class Drawn(SIVT):
    drawn = {}
    def draw_partitions(self, index):
        partitions = super().draw_partitions(index)
        self.drawn |= dict(zip(index.tolist(), partitions))
        return partitions

processes, root, self_induction, out = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "True", sys.argv[4]
torch.manual_seed(0)
module = Drawn(backbone="resnet18", strides=[2, 4], weights="random", image_size=32, patch_size=1, width=16,
               encoder_depth=1, decoder_depth=1, heads=4, smoothing_sigma=2.0, self_induction=self_induction)
data = SIVTDataModule(root, image_size=32, batch_size=8 // processes, num_workers=0, val_share=0.2)
keep = Keep()
trainer = Trainer(devices=processes, accelerator="cpu", strategy="ddp" if processes > 1 else "auto", max_epochs=1,
                  max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, callbacks=[keep],
                  use_distributed_sampler=False, enable_model_summary=False, num_sanity_val_steps=0)
trainer.fit(module, datamodule=data)
torch.save({"gradients": keep.kept, "partitions": module.drawn}, f"{out}.{trainer.global_rank}")
"""
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("self_induction", [True, False])
def test_two_processes_have_the_gradients_of_one_at_twice_the_batch(self_induction: bool, tiny_data: Path) -> None:
    run("1", str(tiny_data), str(self_induction), "1", code=STEPS)
    run_two("2", str(tiny_data), str(self_induction), "2", code=STEPS)
    one, first, second = (torch.load(name, weights_only=True) for name in ("1.0", "2.0", "2.1"))
    for step in (0, 1):  # in the second, DistributedDataParallel would miss a parameter that was not used in the first
        assert one["gradients"][step].keys() == first["gradients"][step].keys()
        for name, gradient in one["gradients"][step].items():
            scale = gradient.abs().max()
            torch.testing.assert_close(first["gradients"][step][name], gradient, rtol=1e-4, atol=1e-5 * float(scale))
            assert torch.equal(first["gradients"][step][name], second["gradients"][step][name])
    if self_induction:
        shared = first["partitions"] | second["partitions"]
        assert len(shared) == len(first["partitions"]) + len(second["partitions"])  # each image on one process
        assert shared.keys() == one["partitions"].keys()
        assert all(torch.equal(shared[image], one["partitions"][image]) for image in shared)
        drawn = list(shared.values())
        assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_a_training_by_two_processes_is_that_of_one(tiny_config: Path, tmp_path: Path) -> None:
    root = write_tiny_data(tmp_path / "data", train=10, good=4, bad=3)  # 14 test images, 3 of them held by one only
    (root / "down" / "test" / "good" / "003.png").unlink()  # 13: an odd number
    fit = ["fit", "--config", str(tiny_config), "--data.root", str(root), "--data.val_share", "0.2"]
    fit += ["--trainer.log_every_n_steps", "2"]
    run(*fit, "--name", "one", "--data.batch_size", "4")
    run(*fit, "--name", "two", "--data.batch_size", "2", *TWO)
    one, two = (Path("runs") / name / "version_0" for name in ("one", "two"))
    assert [path.name for path in two.parent.iterdir()] == ["version_0"]
    assert sorted(path.name for path in (two / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    ours, theirs = rows_of(two / "metrics.csv"), rows_of(one / "metrics.csv")
    assert len(ours) == len(theirs)
    assert len([row for row in ours if row["val/loss"]]) == 2  # once an epoch, not once a process
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys()
        for name in mine.keys() - {"images_per_s"}:
            assert mine[name] == other[name] or float(mine[name]) == pytest.approx(float(other[name]), rel=1e-3), name
    checkpoints = [torch.load(r / "checkpoints" / "best.ckpt", weights_only=True) for r in (two, one)]
    mine, others = (checkpoint["thresholds"] for checkpoint in checkpoints)
    assert mine["categories"].keys() == others["categories"].keys() == {"across", "down"}
    assert mine["pooled"]["images"] == 4
    for name, values in [("pooled", mine["pooled"]), *mine["categories"].items()]:
        right = others["pooled"] if name == "pooled" else others["categories"][name]
        assert values.pop("normal") == pytest.approx(right.pop("normal"), rel=1e-3), name
        assert values == pytest.approx(right, rel=1e-3), name
    calibrated = [checkpoint["calibration"]["products"] for checkpoint in checkpoints]
    for name in ("across", "down"):  # by one process, with all photos
        for part in ("score", "peak"):
            ours, theirs = (products[name][part] for products in calibrated)
            assert (ours["held_out"], ours["trained"]) == (2, 8)
            assert ours["values"] == pytest.approx(theirs["values"], rel=1e-2)
    for name, value in checkpoints[0]["state_dict"].items():
        torch.testing.assert_close(value, checkpoints[1]["state_dict"][name], rtol=1e-2, atol=1e-3, msg=name)

    best = ["--ckpt_path", str(one / "checkpoints" / "best.ckpt")]
    predict = ["predict", *best, "--data.predict_path", str(root / "down" / "test"), "--writer.drift", "true"]
    predict += ["--unknown", "false"]  # else some would be part of no product
    run("test", *best, *TWO, "--output", "two")
    run(*predict, *TWO, "--output", "two")
    assert main(["test", *best, "--output", "one"]) == 0
    assert main([*predict, "--output", "one"]) == 0
    figures = [json.loads(Path(name, "metrics.json").read_text())["categories"] for name in ("one", "two")]
    for category, row in figures[0].items():
        assert figures[1][category] == pytest.approx(row, abs=1e-6)
    tables = [rows_of(Path(name, "predictions.csv")) for name in ("one", "two")]
    assert [row["path"] for row in tables[1]] == [row["path"] for row in tables[0]]
    assert len({row["path"] for row in tables[1]}) == 6
    for mine, other in zip(*tables, strict=True):
        assert float(mine["score"]) == pytest.approx(float(other["score"]), rel=1e-5)
    (compared,), (others,) = (json.loads(Path(name, "drift.json").read_text())["compared"] for name in ("one", "two"))
    assert compared["parts"] == 6
    assert others["windows"][0]["last_path"] == compared["windows"][0]["last_path"]  # each image once, in their order
    assert others["windows"][0]["normal"] == compared["windows"][0]["normal"]


def test_two_machines_under_torchrun(tiny_config: Path, tiny_data: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def on_two_machines(*arguments: str) -> None:
        agents = []
        for node in range(2):
            where = ["--nnodes", "2", "--nproc_per_node", "1", "--node_rank", str(node)]
            place = [*where, "--master_addr", "127.0.0.1", "--master_port", str(port)]
            spread = ["--trainer.num_nodes", "2", "--trainer.devices", "1", "--trainer.strategy", "ddp"]
            agents.append(Forked(*place, "-m", "sivt_lightning", *arguments, *spread, module="torch.distributed.run"))
        ended = [agent.wait() for agent in agents]
        assert [agent.returncode for agent in ended] == [0, 0], ended

    on_two_machines("fit", "--config", str(tiny_config))
    assert [path.name for path in Path("runs/tiny").iterdir()] == ["version_0"]
    settings = yaml.safe_load(Path("runs/tiny/version_0/config.yaml").read_text())
    assert settings["trainer"]["num_nodes"] == 2
    losses = [row["val/loss"] for row in rows_of(Path("runs/tiny/version_0/metrics.csv")) if row["val/loss"]]
    assert len(losses) == 2
    best = ["--ckpt_path", "runs/tiny/version_0/checkpoints/best.ckpt"]
    on_two_machines("predict", *best, "--data.predict_path", str(tiny_data / "down" / "test"), "--output", "two")
    assert len({row["path"] for row in rows_of(Path("two/predictions.csv"))}) == 6
    assert not list(Path("two").glob("*.part*"))


def test_fsdp_without_a_gpu_is_one_sentence(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["fit", "--config", str(tiny_config), "--trainer.strategy", "fsdp", "--trainer.accelerator", "cpu"]) == 1
    )
    assert "fsdp" in capsys.readouterr().err


def test_ctrl_c_to_one_process_stops_them_all(tiny_config: Path) -> None:
    training = Forked("fit", "--config", str(tiny_config), "--trainer.max_epochs", "1000", *TWO)
    # Only the first process of a terminal is told here: it has to bring the other along.
    for line in training.stdout:
        if line.startswith("epoch 2/"):
            os.kill(training.pid, signal.SIGINT)
            break
    ended = training.wait()
    assert ended.returncode == 1, ended
    assert "Stopped in epoch" in ended.stderr
    last = Path("runs/tiny/version_0/checkpoints/last.ckpt")
    steps = torch.load(last, weights_only=True)["global_step"]
    assert steps > 0
    run("fit", "--ckpt_path", str(last), "--trainer.max_steps", str(steps + 2))
    assert torch.load(last, weights_only=True)["global_step"] >= steps


def test_two_processes_keep_features_of_half_of_the_images_each(tiny_config: Path) -> None:
    fit = ["fit", "--config", str(tiny_config), "--data.cache", "disk", "--trainer.max_epochs", "1"]
    run(*fit, "--name", "one", "--data.batch_size", "4", "--data.cache_dir", "alone")
    two = [*fit, "--data.batch_size", "2", *TWO]
    run_two(*two, "--name", "two", "--data.cache_dir", "shared")
    run_two(*two, "--name", "memory", "--data.cache", "memory")
    alone, shared = ({path.name: path.read_bytes() for path in Path(d).rglob("*.*")} for d in ("alone", "shared"))
    assert len(shared) == 20
    assert shared == alone
    alone_loss, disk_loss, memory_loss = (
        [float(row["val/loss"]) for row in rows_of(Path("runs") / name / "version_0/metrics.csv") if row["val/loss"]]
        for name in ("one", "two", "memory")
    )
    assert disk_loss == pytest.approx(alone_loss, rel=1e-3)
    assert memory_loss == disk_loss


BROKEN = """
import sys
from sivt_lightning.cli import main
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.training.module import SIVT

step = SIVT.training_step
def training_step(self, batch, batch_idx):
    loss = step(self, batch, batch_idx)
    return loss * float("nan") if self.global_rank == 1 and self.global_step == 2 else loss
if sys.argv[1] == "nan":
    SIVT.training_step = training_step
else:
    def transfer(self, batch, index, before=SIVTDataModule.on_before_batch_transfer):
        if self.trainer.global_rank == 1 and self.trainer.global_step == 2:
            raise MemoryError("of one process")
        return before(self, batch, index)
    SIVTDataModule.on_before_batch_transfer = transfer
sys.exit(main(sys.argv[2:]))
"""


def test_a_loss_that_is_no_number_on_one_process_ends_them_all_with_one_sentence(tiny_config: Path) -> None:
    given = ["fit", "--config", str(tiny_config), "--data.batch_size", "2", *TWO]
    first, second = together("nan", *given, code=BROKEN)
    assert (first.returncode, second.returncode) == (1, 0)  # as Lightning wants it where it starts the second
    printed = first.stderr + second.stderr
    assert printed.count("sivt: error: ") == 1
    assert "The loss is nan at step 3 (epoch 1)" in printed
    assert "Traceback" not in printed
    assert not list(Path("runs").rglob("*.ckpt"))


def test_a_process_whose_fellow_has_died_says_so(tiny_config: Path) -> None:
    given = ["fit", "--config", str(tiny_config), "--data.batch_size", "2", *TWO]
    first, second = together("dies", *given, code=BROKEN)
    assert (first.returncode, second.returncode) == (1, 1)
    assert "MemoryError: of one process" in second.stderr
    assert first.stderr.endswith("Another process of this training has ended: what it said is the reason.\n")
    assert "Traceback" not in first.stderr


def test_two_trainings_of_one_name_started_at_once_have_a_folder_each(tiny_config: Path) -> None:
    fit = ["fit", "--config", str(tiny_config), "--trainer.max_epochs", "1"]
    both = [Forked(*fit, "--seed_everything", str(seed)) for seed in (0, 1)]
    done = [process.wait() for process in both]
    assert [process.returncode for process in done] == [0, 0]
    runs = sorted(Path("runs/tiny").iterdir())
    assert [path.name for path in runs] == ["version_0", "version_1"]
    seeds = set()
    for run_ in runs:
        assert len([row for row in rows_of(run_ / "metrics.csv") if row["val/loss"]]) == 1
        checkpoint = torch.load(run_ / "checkpoints/last.ckpt", weights_only=True)
        seeds.add(checkpoint["hyper_parameters"]["seed"])
        assert sum(f"The model is {run_}/checkpoints/best.ckpt" in process.stdout for process in done) == 1
    assert seeds == {0, 1}


def test_one_process_goes_on_by_two_within_an_epoch(tiny_config: Path, watched: Watched) -> None:
    watched.stop = 7
    given = ["--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "1"]
    assert main(["fit", "--config", str(tiny_config), *given]) == 1
    last = Path("runs/tiny/version_0/checkpoints/last.ckpt")
    run_two("fit", "--ckpt_path", str(last), *TWO)
    saved = torch.load(last, weights_only=True)
    assert saved["global_step"] == 7 + 2 + 3  # ten images were left of the second epoch, eight go into a step now
    assert saved["SIVTDataModule"]["seen"] == 18
    assert saved["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0, abs=1e-9)
    rates = [float(row["lr-Muon/pg1"]) for row in rows_of(last.parents[1] / "metrics.csv") if row["lr-Muon/pg1"]]
    assert rates[1:] == sorted(rates[1:], reverse=True)  # after the first step, which warms up
