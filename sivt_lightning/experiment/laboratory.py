"""Trains and tests what tables of settings say, and lays the results side by side."""

import json
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sivt_lightning.errors import SIVTError, Stopped
from sivt_lightning.experiment.plan import FEATURES, Experiment, Run, runs_of
from sivt_lightning.experiment.table import Outcome, csv_table, markdown_table
from sivt_lightning.files import write_whole
from sivt_lightning.model.settings import ModelSettings

COMMAND = [sys.executable, "-m", "sivt_lightning"]
RUN = Path("runs/run/version_0")  # of a training's own folder
BEST, LAST = RUN / "checkpoints/best.ckpt", RUN / "checkpoints/last.ckpt"
SETTINGS, RECORD, LOG = "settings.json", "experiment.json", "log.txt"
GRACE = 60  # seconds to end in, of which a step may take half
DEFAULT_BACKBONE = ModelSettings().backbone


def weights_of(given: Sequence[str]) -> dict[str, str]:
    """By backbone: of the default one PATH, of others NAME=PATH, and "package" for a path.

    Raises SIVTError where there is no such file.
    """
    sources = {}
    for text in given:
        named = "=" in text and not Path(text).expanduser().is_file()
        name, path = text.split("=", 1) if named else (DEFAULT_BACKBONE, text)
        if path != "package" and not Path(path).expanduser().is_file():
            raise SIVTError(
                f"weights {text}: there is no file {path}. Give PATH, NAME=PATH or NAME=package for the backbone NAME."
            )
        sources[name] = path if path == "package" else str(Path(path).expanduser().resolve())
    return sources


@dataclass(frozen=True)
class Laboratory:
    """Where experiments are made, and what goes into all of them."""

    output: Path
    root: Path
    weights: Mapping[str, str]  # files, or "package", by backbone
    say: Callable[[str], object] = print  # told of each training as it begins and ends

    def carry_out_all(
        self, experiments: Sequence[Experiment], rows: Sequence[str], seeds: Sequence[int] | None
    ) -> bool:
        """The trainings of these rows, with these seeds in place of the files', and tables after each.

        False where one failed. Raises Stopped.
        """
        failed = False
        with _ending_on_sigterm():
            for each in experiments:
                for run in runs_of(each, self.root, seeds):
                    if run.row in rows:
                        failed |= not self.carry_out(each, run)
                        self.write_tables(each, seeds)
        return not failed

    def carry_out(self, experiment: Experiment, run: Run) -> bool:
        """Train and test, or go on with that, or leave what is done; false where it failed."""
        folder = self.output / experiment.name / run.folder
        record, asked, known = self.record(experiment, run), self._asked(experiment, run), folder / SETTINGS
        if known.is_file() and json.loads(known.read_text(encoding="utf-8")) != asked:
            if record is None or not record["error"]:
                raise SIVTError(
                    f"{folder} was begun with other settings, data or weights than are asked for now: "
                    "delete the folder, or name another with --output."
                )
            shutil.rmtree(folder)  # nothing came of it
        elif record is not None and not record["error"]:
            return True
        self.say(f"{experiment.name}, {run.row}, seed {run.seed}{f', {run.category}' if run.category else ''}")
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(known, json.dumps(asked, indent=2) + "\n")
        start, day = time.monotonic(), datetime.now(UTC).strftime("%Y-%m-%d")
        anew = not (folder / LAST).is_file()
        error = self._train(folder, run)
        seconds = time.monotonic() - start
        if not error and experiment.test:
            error = _call(folder, ["test", "--ckpt_path", str(BEST), "--eval.curves=false"])
        record = {"arguments": run.arguments, "error": error, "date": day}
        # Of a training that goes on, only the last part was timed.
        record["seconds"] = round(seconds) if anew else None
        record |= {"commit": _commit(), "machine": f"{_processor()}, Python {platform.python_version()}"}
        write_whole(folder / RECORD, json.dumps(record, indent=2) + "\n")
        self.say(f"  {error or f'{seconds / 60:.1f} min'}")
        return not error

    def record(self, experiment: Experiment, run: Run) -> dict[str, Any] | None:
        """What was written down at the end of a run, or None."""
        file = self.output / experiment.name / run.folder / RECORD
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def write_tables(self, experiment: Experiment, seeds: Sequence[int] | None) -> None:
        """`<name>.csv`, a row for each training, and `<name>.md`, one for each row of the experiment."""
        outcomes, runs = [], list(runs_of(experiment, self.root, seeds))
        for run in runs:
            if (record := self.record(experiment, run)) is not None:
                folder = self.output / experiment.name / run.folder / RUN
                outcomes.append(Outcome.read(run, record, folder, experiment.reach))
        write_whole(self.output / f"{experiment.name}.csv", csv_table(outcomes))
        categories = len({run.category for run in runs if run.category})
        write_whole(self.output / f"{experiment.name}.md", markdown_table(experiment, outcomes, categories))

    def _asked(self, experiment: Experiment, run: Run) -> dict[str, Any]:
        """All that decides what comes out, wherever the files lie."""
        text = experiment.config.read_text(encoding="utf-8")
        return {
            "config": text,
            "arguments": run.arguments[2:],
            "root": str(self.root),
            "weights": self._weights_of(run),
        }

    def _weights_of(self, run: Run) -> str | None:
        return None if run.has_weights else self.weights.get(run.backbone or DEFAULT_BACKBONE)

    def _train(self, folder: Path, run: Run) -> str:
        if (folder / LAST).is_file():
            return _call(folder, ["fit", "--ckpt_path", str(LAST)])
        # What a start left behind that ended before its first checkpoint would make this one version_1.
        shutil.rmtree(folder / RUN.parts[0], ignore_errors=True)
        given = [f"--data.root={self.root}", f"--data.cache_dir={self.output / FEATURES}", "--name=run"]
        if weights := self._weights_of(run):
            given.append(f"--model.weights={weights}")
        return _call(folder, ["fit", *run.arguments, *given])


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as of `kill` or a machine that shuts down."""


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    def end(*_: Any) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _call(folder: Path, arguments: list[str]) -> str:
    """Run a command in the folder, all it says in a file; why it failed, or ""."""
    with (folder / LOG).open("a", encoding="utf-8") as log:
        process = subprocess.Popen([*COMMAND, *arguments], cwd=folder, stdout=log, stderr=log)
        try:
            code = process.wait()
        except KeyboardInterrupt as stop:
            if isinstance(stop, _Terminated):  # of a Ctrl-C the training has heard, too: it saves a checkpoint
                _end(process)
            process.wait()
            raise Stopped("Stopped. The same command goes on from here.") from None
    lines = [line for line in (folder / LOG).read_text(encoding="utf-8").splitlines() if line.strip()]
    said = lines[-1].removeprefix("sivt: error: ") if lines else ""
    return f"exit code {code}: {said}" if code else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does. What a script has started in the background ignores that: it is killed, its last.ckpt whole."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def _commit() -> str:
    """Of the code at hand, with a plus where it was changed since; "" where it is no working tree of git."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "."], cwd=here.parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
