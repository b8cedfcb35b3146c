"""Ctrl-C in a training, and the SIGTERM of a machine that shuts down."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from sivt_lightning.errors import Stopped

ASKED = b"\nStopping after this step; Ctrl-C once more stops at once.\n"

AGREE_EVERY = 10  # steps
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def signals_given_back() -> Iterator[None]:
    """What is done at a signal is done again afterwards.

    After an error Lightning calls no `teardown`, and sets the signals to what it met: the callback's, of no use by now.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


class Interruption(Callback):
    """The first Ctrl-C or SIGTERM ends a training between two steps.

    Its last.ckpt goes on as if nothing had happened. Several processes stop at the same step, whichever of them heard
    it first.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.asked = False
        self.before: dict[int, Any] = {}  # what was done at each signal

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, where Python lets us: in the main thread."""
        if threading.current_thread() is threading.main_thread():
            # Lightning's end of a training at SIGTERM looks like success: it says nothing, and the exit code is 0.
            self.before = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """By now Lightning has put a handler of its own before this one: SIGTERM would cut a validation short."""
        if self.before:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self.asked else self._ask)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop, but not between a gradient and the step that it is accumulated for."""
        # After an epoch's last batch its validation comes first: a checkpoint from before would never have it.
        last = batch_idx + 1 >= trainer.num_training_batches
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not last
        # To agree costs several processes an exchange.
        due = trainer.world_size == 1 or trainer.global_step % AGREE_EVERY == 0
        if stepped and due and self._agreed(trainer):
            trainer.save_checkpoint(self.checkpoint)
            self._stop(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Asked for in a validation: by now last.ckpt has been written."""
        if trainer.global_step and self._agreed(trainer):
            self._stop(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The second Ctrl-C."""
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero:
            print(f"Stopped at once. {self._how_to_go_on()}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, before in self.before.items():
            signal.signal(number, before)
        self.before = {}

    def _ask(self, *_: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self.before[signal.SIGINT])
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.write(2, ASKED)  # print is not for signal handlers

    def _agreed(self, trainer: Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self.asked, all=False)

    def _stop(self, trainer: Trainer) -> None:
        raise Stopped(f"Stopped in epoch {trainer.current_epoch + 1}. {self._how_to_go_on()}")

    def _how_to_go_on(self) -> str:
        if self.checkpoint.is_file():
            return f"Go on with:\n  sivt fit --ckpt_path {self.checkpoint}"
        return "Nothing was saved yet: start it anew."
