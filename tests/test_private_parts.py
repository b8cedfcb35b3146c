"""What the package uses of the inside of others is there, and does what it is taken for.

A release of theirs may break it without a word. Each test names the file that has to be looked at then, and the only
one that has to be changed.
"""

import ast
import asyncio
import contextlib
import importlib.util
import inspect
import io
import logging
import signal
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import uvicorn
from lightning.fabric.plugins.precision.amp import _optimizer_handles_unscaling
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, callbacks
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from PIL import Image
from starlette.middleware.cors import CORSMiddleware
from timm.optim import Muon
from torch import Tensor, nn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sivt_lightning.cli.parser_inside import options_in
from sivt_lightning.data.pillow_inside import has_more_pages, silence_pillow, tags, unread_file
from sivt_lightning.evaluation.metrics.settled import SettledMetric
from sivt_lightning.model.networks import build_network
from sivt_lightning.serve.uvicorn_server import Server
from sivt_lightning.training.adamw import adamw
from sivt_lightning.training.csv_log import AppendingCSVLogger
from sivt_lightning.training.loops import batches_begun, count_as_done, epochs_done, is_at_its_end, validations_waited
from sivt_lightning.training.saving import BestCheckpoint, EarlyStopping

QUIET: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


def look_at(file: str) -> str:
    """What a test says where it fails."""
    assert (Path(__file__).parents[1] / "sivt_lightning" / file).is_file(), file
    return f"another release has changed what sivt_lightning/{file} builds on"


# --- uvicorn: serve/uvicorn_server.py

UVICORN = look_at("serve/uvicorn_server.py")


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Its lifespan is accepted, its requests wait until whoever asks goes away."""
    while scope["type"] == "lifespan":
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
    while (await receive())["type"] != "http.disconnect":
        pass


def test_uvicorn_ends_by_what_it_hears_and_at_once_by_a_second_ctrl_c() -> None:
    server = Server(application, logging.NullHandler())
    assert not server.ends, UVICORN
    server.handle_exit(signal.SIGTERM, None)
    assert (server.ends, server.ended_at_once) == (True, False), UVICORN
    server.handle_exit(signal.SIGINT, None)
    assert server.ended_at_once, UVICORN


def test_uvicorn_keeps_the_state_of_a_connection_where_it_is_looked_up() -> None:
    source = inspect.getsource(H11Protocol)
    for used in ("self.conn = h11.Connection(", "self.timeout_keep_alive_handler", "def on_response_complete(self)"):
        assert used in source, UVICORN


def test_uvicorn_takes_the_signals_where_it_is_said_to_and_knows_who_is_connected() -> None:
    assert "self.capture_signals()" in inspect.getsource(uvicorn.Server.serve), UVICORN
    before = signal.getsignal(signal.SIGTERM)

    async def cut_off() -> int:
        server, place = Server(application, logging.NullHandler()), socket.create_server(("127.0.0.1", 0))
        heard: list[int] = []
        server.hear_signals(lambda: heard.append(1))
        serving = asyncio.create_task(server.serve(sockets=[place]))
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*place.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        await writer.drain()
        while not server.server_state.connections:
            await asyncio.sleep(0.01)
        signal.raise_signal(signal.SIGTERM)
        while not heard:
            await asyncio.sleep(0.01)
        assert server.ends, UVICORN
        count = server.cut_off()
        with contextlib.suppress(ConnectionError):
            assert not await reader.read(), UVICORN
        await serving
        return count

    assert asyncio.run(asyncio.wait_for(cut_off(), 30)) == 1, UVICORN
    assert signal.getsignal(signal.SIGTERM) == before, UVICORN


# --- torchmetrics: evaluation/metrics/settled.py

TORCHMETRICS = look_at("evaluation/metrics/settled.py")


class Late(SettledMetric):
    """The sum of what it is given, which gets into its state only when that is looked at."""

    fields = ("kept",)

    def __init__(self) -> None:
        super().__init__()
        self.late: list[Tensor] = []

    def update(self, value: Tensor) -> None:
        self.late.append(value)

    def settle(self) -> None:
        self.put([*self.parts, *((value,) for value in self.late)])
        self.late = []

    def compute(self) -> Tensor:
        self.settle()
        return sum((value.sum() for (value,) in self.parts), torch.zeros(()))

    def reset(self) -> None:
        super().reset()
        self.late = []


def test_torchmetrics_looks_at_a_metrics_state_after_it_is_settled() -> None:
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    metric = Late()
    metric.update(one)
    assert [value.item() for value in metric.metric_state["kept"]] == [1], TORCHMETRICS
    metric.update(two)
    metric.sync(dist_sync_fn=lambda state, group=None: [state, state], distributed_available=lambda: True)
    assert metric.parts[0][0].tolist() == [1, 2, 1, 2], TORCHMETRICS
    metric.unsync()
    assert metric.compute() == 3, TORCHMETRICS
    metric.reset()
    assert metric(two) == 2, TORCHMETRICS  # of this batch
    assert metric(one) == 1, TORCHMETRICS
    assert metric.compute() == 3, TORCHMETRICS


def test_torchmetrics_computes_anew_after_a_merge() -> None:
    metric, other = Late(), Late()
    metric.update(torch.tensor([1.0]))
    other.update(torch.tensor([5.0]))
    assert metric.compute() == 1, TORCHMETRICS
    metric.merge_state(other)
    assert metric.compute() == 6, TORCHMETRICS


# --- torch and timm: training/adamw.py, training/optimizer.py, model/networks.py

ADAMW, MUON, TIMM = map(look_at, ("training/adamw.py", "training/optimizer.py", "model/networks.py"))


def test_torchs_adamw_leaves_the_scale_of_gradients_to_the_scaler() -> None:
    weight = nn.Parameter(torch.ones(3))
    assert _optimizer_handles_unscaling(torch.optim.AdamW([weight], fused=True)), f"no longer needed? {ADAMW}"
    optimizer, scaler = adamw([weight], 0.1, 0.0), torch.amp.GradScaler("cpu")
    assert not _optimizer_handles_unscaling(optimizer), ADAMW
    scaler.scale(weight.sum()).backward()
    assert weight.grad is not None
    assert weight.grad[0] > 1
    scaler.step(optimizer)
    assert weight.grad.tolist() == [1, 1, 1], ADAMW
    assert weight.tolist() == pytest.approx([0.9] * 3, abs=1e-5), ADAMW


def test_the_rate_of_what_muon_leaves_to_adamw_is_its_groups_own() -> None:
    matrix, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = Muon([{"params": [matrix]}, {"params": [bias], "use_fallback": True, "lr": 0.3}], lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 if step else 0.0)
    (matrix.sum() + bias.sum()).backward()
    optimizer.step()
    assert bias.tolist() == [1, 1], MUON  # the schedule reaches it
    scheduler.step()
    optimizer.step()
    assert bias.tolist() == pytest.approx([0.85] * 2, abs=1e-3), MUON
    assert len(scheduler.lr_lambdas) == len(scheduler.base_lrs) == 2, MUON


def test_timm_says_what_a_network_gives_and_efficientnets_are_cut() -> None:
    whole, cut = (build_network("efficientnet_lite0", 64, indices) for indices in (None, [0, 1]))
    assert whole.feature_info.reduction() == [2, 4, 8, 16, 32], TIMM
    assert cut.feature_info.channels() == whole.feature_info.channels()[:2], TIMM
    assert [info["module"] for info in cut.feature_info.get_dicts()] == ["blocks.0", "blocks.1"], TIMM
    assert (len(cut.blocks), len(whole.blocks)) == (2, 7), TIMM
    assert len(cut.pretrained_cfg["mean"]) == 3, TIMM
    assert timm.get_pretrained_cfg("vit_tiny_patch16_224").fixed_input_size, TIMM
    transformer = build_network("test_vit", 64, [0, 2])
    assert [info["reduction"] for info in transformer.feature_info.info] == [16] * 6, TIMM
    assert transformer.feature_info.reduction() == [16, 16], TIMM
    assert len(transformer.model.blocks) == 3, TIMM
    channels_last = timm.create_model("swin_tiny_patch4_window7_224", features_only=True)
    assert str(channels_last.output_fmt).endswith("NHWC"), TIMM


# --- Lightning: training/loops.py, saving.py, csv_log.py, data/datamodule.py

LOOPS, SAVING, CSV = (look_at(f"training/{name}.py") for name in ("loops", "saving", "csv_log"))


WRITER = "".join(inspect.getsource(kind) for kind in ExperimentWriter.__mro__[:2])


class Learner(LightningModule):
    """Trains one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.log("loss", self.weight)
        return self.weight * batch.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightnings_loops_count_as_they_did(tmp_path: Path) -> None:
    path, batches = tmp_path / "last.ckpt", torch.ones(5, 1)
    settings: dict[str, Any] = {"accelerator": "cpu", "default_root_dir": tmp_path, "enable_checkpointing": False}

    class Saved(callbacks.Callback):
        """Within an epoch."""

        def on_train_batch_end(self, trainer: Trainer, *given: Any) -> None:
            if trainer.global_step == 2:
                trainer.save_checkpoint(path)

    class Resumed(callbacks.Callback):
        """Takes three batches for done, where two are."""

        batches: list[int] = []  # noqa: RUF012

        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            assert not is_at_its_end(trainer), LOOPS
            count_as_done(trainer, 3)

        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
        ) -> None:
            self.batches.append(batch_idx)

    Trainer(max_epochs=1, callbacks=[Saved()], **settings, **QUIET).fit(Learner(), batches)
    assert batches_begun(torch.load(path, weights_only=True)) == 2, LOOPS
    resumed = Trainer(max_epochs=1, callbacks=[Resumed()], **settings, **QUIET)
    resumed.fit(Learner(), batches, ckpt_path=path, weights_only=True)
    assert Resumed.batches == [3, 4], LOOPS
    assert is_at_its_end(resumed), LOOPS
    waiting = EarlyStopping("loss", mode="max", patience=9, check_on_train_epoch_end=True)
    whole = Trainer(max_epochs=3, callbacks=[waiting], **settings, **QUIET)
    whole.fit(Learner(), batches)  # the loss goes down
    whole.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    assert (epochs_done(checkpoint), batches_begun(checkpoint), validations_waited(checkpoint)) == (3, 5, 2), LOOPS


def test_what_lightnings_callbacks_keep_has_the_names_that_it_had() -> None:
    stopping = EarlyStopping("loss", patience=3)
    assert stopping.state_key.startswith("EarlyStopping"), LOOPS
    assert {"patience", "stopped_epoch", "wait_count"} <= stopping.state_dict().keys(), SAVING
    kept = {"dirpath", "best_model_score", "best_model_path", "kth_best_model_path", "best_k_models"}
    best = BestCheckpoint(monitor="loss")
    assert kept <= best.state_dict().keys(), SAVING
    assert kept <= vars(best).keys() | {"dirpath"}, SAVING


def test_lightnings_csv_log_is_written_by_what_is_replaced(tmp_path: Path) -> None:
    assert "self._check_log_dir_exists()" in WRITER, CSV
    assert "self._rewrite_with_new_header(" in WRITER, CSV
    assert "_experiment" in vars(CSVLogger(tmp_path)), CSV
    for step, figures in enumerate(({"a": 1.0}, {"a": 2.0, "b": 3.0})):
        log = AppendingCSVLogger(tmp_path, "run", "version")
        log.log_metrics(figures, step)
        log.save()
    text = (tmp_path / "run/version/metrics.csv").read_text()
    assert [line.count(",") for line in text.split()] == [2, 2, 2], CSV
    assert "1.0" in text, CSV


def test_lightning_keeps_the_data_module_where_it_is_looked_for() -> None:
    data = LightningDataModule()
    data.train_dataloader = lambda: torch.ones(1, 1)  # type: ignore[method-assign]
    trainer = Trainer(fast_dev_run=True, accelerator="cpu", **QUIET)
    trainer.fit(Learner(), datamodule=data)
    assert trainer.datamodule is data, look_at("data/datamodule.py")  # type: ignore[attr-defined]


# --- LightningCLI and jsonargparse: cli/lightning_hooks.py, cli/parser_inside.py

CLI, PARSERS = look_at("cli/lightning_hooks.py"), look_at("cli/parser_inside.py")
HOOKS = ("_prepare_subcommand_parser", "_prepare_subcommand_kwargs", "_parse_ckpt_path", "_get")


@pytest.mark.parametrize("hook", HOOKS)
def test_lightningcli_calls_the_hooks_that_are_overridden(hook: str) -> None:
    assert callable(getattr(LightningCLI, hook, None)), f"LightningCLI.{hook}: {CLI}"
    assert f"self.{hook}(" in inspect.getsource(LightningCLI), f"LightningCLI.{hook}: {CLI}"


def test_parsers_keep_their_options_where_they_are_looked_for() -> None:
    parser = LightningArgumentParser()
    parser.add_argument("--there", help="Is there.")
    options = {option.option_strings[0]: option.help for option in options_in(parser)}
    assert options["--there"] == "Is there.", PARSERS


# --- Pillow: data/pillow_inside.py

PILLOW = look_at("data/pillow_inside.py")


def test_pillow_tells_of_a_file_what_it_told() -> None:
    page, file = Image.fromarray(np.zeros((4, 4), np.uint16)), io.BytesIO()
    page.save(file, "TIFF", save_all=True, append_images=[page])
    with Image.open(file) as image:
        assert hasattr(image.tag_v2, "next"), PILLOW
        assert has_more_pages(image), PILLOW
        assert tags(image)[258] == (16,), PILLOW
        assert unread_file(image) is file, PILLOW
        image.load()
        assert unread_file(image) is None, PILLOW
    single = io.BytesIO()
    page.save(single, "TIFF")
    with Image.open(single) as image:
        assert not has_more_pages(image), PILLOW


def test_pillow_is_silenced_once(recwarn: pytest.WarningsRecorder) -> None:
    import warnings

    with warnings.catch_warnings():
        silence_pillow()
        count = len(warnings.filters)
        silence_pillow()
        assert len(warnings.filters) == count, PILLOW


# --- Starlette: serve/cors.py; OpenVINO and NNCF: export/graph.py


def test_starlette_answers_what_a_browser_asks_before_it_sends_by_the_method_that_is_overridden() -> None:
    assert "self.preflight_response(request_headers=headers)" in inspect.getsource(CORSMiddleware), look_at(
        "serve/cors.py"
    )


@pytest.mark.parametrize("package", ["openvino", "nncf"])
def test_no_exporter_reports_without_the_package_that_is_hidden_from_it(package: str) -> None:
    """Every import of it is one that may fail."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed: pip install 'sivt-lightning[openvino]'")
    files = [
        file for file in Path(spec.submodule_search_locations[0]).rglob("*.py") if names_it(file.read_text("utf-8"))
    ]
    assert files, f"{package} reports in another way? {look_at('export/graph.py')}"
    for file in files:
        nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
        tried = {inner for node in nodes if isinstance(node, ast.Try) for part in node.body for inner in ast.walk(part)}
        imports = {
            node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) and names_it(ast.unparse(node))
        }
        assert imports <= tried, f"{file}: {look_at('export/graph.py')}"


def names_it(code: str) -> bool:
    return "openvino_telemetry" in code
