"""Going on with a training: what may be changed, what is left of it, and where it stands by the batches of now."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from sivt_lightning.data.datamodule import SIVTDataModule, data_of
from sivt_lightning.data.urls import path_of
from sivt_lightning.errors import Finished, SIVTError
from sivt_lightning.inference.checkpoint import read_checkpoint, same_setting
from sivt_lightning.inference.inspection import Inspection
from sivt_lightning.model.settings import names_of
from sivt_lightning.processes import divide
from sivt_lightning.training.loops import (
    batches_begun,
    count_as_done,
    epochs_done,
    is_at_its_end,
    validations_waited,
)

# What may be changed on the way, and then is. All else of the model's and the data's settings would make weights, best
# score or thresholds those of another model; the Trainer takes its own as they are given.
FREE = {f"model.{name}" for name in names_of("training")}
FREE |= {"data.batch_size", "data.eval_batch_size", "data.num_workers", "data.cache", "data.cache_dir"}
FREE |= {"data.rotation", "data.shift", "data.flip", "data.light", "data.predict_path"}
IMAGES = {"data.root", "data.categories", "data.layout", "data.val_share"}  # where they still give the same images
LINKED = {"model.seed", "data.seed", "data.image_size"}  # to another, which is looked at


def refuse_changes(config: Any, checkpoint: Mapping[str, Any], run: Path, recorded_name: Any) -> None:
    """Raises SIVTError where a setting is another than the run was begun with, and cannot be changed on the way.

    Args:
        config: the settings of now, those of the checkpoint among them.
        recorded_name: that of the run's own config.yaml.
    """
    model, data = checkpoint["hyper_parameters"], checkpoint["datamodule_hyper_parameters"]
    pairs = [("seed_everything", config["seed_everything"], model["seed"])]
    for part, then in (("model", model), ("data", data)):
        given = config[part].as_dict()
        if part == "data" and given.get("depth") is None:  # the same images decide the same
            given["depth"] = then.get("depth")
        if part == "data" and given["root"]:  # a checkpoint holds it as it is from everywhere
            given["root"] = str(path_of(given["root"]).resolve())
        pairs += [(f"{part}.{key}", given[key], then[key]) for key in given if key in then]
    pairs += _judged(config, checkpoint)
    checked = "SIVTDataModule" in checkpoint  # and so are the images: by the data module, once it has found them
    for name, given, then in pairs:
        if name not in FREE | LINKED | (IMAGES if checked else set()) and not same_setting(given, then):
            begun = "is judged by" if name == "monitor" else "was begun with"
            raise SIVTError(
                f"{name} is {given}, but the run to go on with {begun} {then}, on which weights, best score or "
                "thresholds rest: leave the option out, or start a new run (from its weights: --model.init_from)."
            )
    name = config.get("name")
    if name not in (None, recorded_name, run.resolve().parent.name):
        raise SIVTError(
            f"name is {name}, but a run goes on in its own folder, {run}: leave the option out, or start a new run."
        )


def _judged(config: Any, checkpoint: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What the model chosen so far rests on, its score and thresholds: (name, value of now, value of then)."""
    trainer, then = config["trainer"], checkpoint.get("training", {})
    name = "overfit_batches" if trainer["overfit_batches"] else "limit_val_batches"  # the former sets the latter
    limit, limit_then = str(_or(trainer[name], 1.0)), then.get("limit_val_batches")  # 1 is a batch, 1.0 are all
    if name == "overfit_batches" and limit_then not in (None, limit):
        limit_then = f"trainer.limit_val_batches {limit_then}"
    judged = [("monitor", config["monitor"], then.get("monitor"))]
    judged.append((f"trainer.{name}", limit, limit_then))
    if config["monitor"].startswith("val/synthetic"):
        twins = checkpoint["callbacks"].get("SyntheticValidation", {})
        judged.append(("synthetic.per_image", config["synthetic"]["per_image"], twins.get("per_image")))
    return [each for each in judged if each[2] is not None]


def refuse_other_photos(data: SIVTDataModule, checkpoint: Mapping[str, Any]) -> None:
    """Raises SIVTError where photos have the names of those of the training, but show something else.

    Called by all processes, of which the first one looks.
    """
    then = checkpoint.get("training", {}).get("images")  # an earlier version did not say

    def look(recorded: Sequence[str]) -> Sequence[None]:
        if any(each != data.training_images for each in recorded):
            raise SIVTError(
                f"Photos in {data.root} have changed since the training was begun, though not their names: give it "
                "back those of then, or start a new run from its weights with --model.init_from."
            )
        return [None] * len(recorded)

    divide(look, [] if then is None else [then])


def refuse_other_regions(data: SIVTDataModule, checkpoint: Mapping[str, Any]) -> None:
    """Raises SIVTError where another part of the photos is inspected than when the training was begun."""
    then = Inspection.from_plain(checkpoint.get("regions", {}), checkpoint["hyper_parameters"])
    if not Inspection(then.settings, data.regions).same_as(then):
        raise SIVTError(
            f"The regions of interest in {data.root} are not those that the training was begun with, on which weights, "
            "best score and thresholds rest: give it back those of then, or start a new run from its weights with "
            "--model.init_from."
        )


def finish_if_done(config: Any, checkpoint: Mapping[str, Any], path: str, best: Path) -> None:
    """Raises Finished where nothing is left to train."""
    trainer = config["trainer"]
    epochs, waited = epochs_done(checkpoint), validations_waited(checkpoint)
    most, most_steps = _or(trainer["max_epochs"], 1000), trainer["max_steps"]
    patience = config["patience"]
    if most != -1 and epochs >= most:
        done, longer = f"its {epochs} epochs are done", f"--trainer.max_epochs {2 * epochs}"
    elif most_steps != -1 and checkpoint["global_step"] >= most_steps:
        done, longer = f"its {checkpoint['global_step']} steps are done", f"--trainer.max_steps {2 * most_steps}"
    elif patience is not None and waited >= patience and epochs >= (trainer["min_epochs"] or 0):
        done = f"{config['monitor']} had not got better for {waited} validations"
        longer = f"--patience {2 * patience}"
    else:
        return
    model = f"The model is {best}. " if best.is_file() else ""
    if model and read_checkpoint(str(best)).get("calibration") is None:  # stopped at its very end
        model += f"It is not calibrated yet: sivt calibrate --ckpt_path {best} --output {best} --overwrite. "
    raise Finished(f"Nothing is left to train: {done}. {model}To train longer:\n  sivt fit --ckpt_path {path} {longer}")


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def epoch_steps(trainer: Any) -> int:
    """Optimizer steps of an epoch."""
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def steps_done(trainer: Any) -> int:
    """Steps that make up what is done of the epochs, by batches as they are now.

    Called between the restoring of a checkpoint and the first batch. An epoch that was stopped within goes on with the
    images that it has not seen. Lightning counts the batches of an epoch to know its end, as many as there were then:
    they become as many as leave those that there are now.
    """
    total = trainer.num_training_batches
    data, loader = data_of(trainer), trainer.train_dataloader
    epoch, seen = data.progress.epoch, data.progress.images
    steps = trainer.current_epoch * epoch_steps(trainer)
    if not seen or epoch != trainer.current_epoch:
        return steps
    if is_at_its_end(trainer):
        done, steps = total, steps + epoch_steps(trainer)
    else:
        by_limit = total - seen // (trainer.world_size * data.batch_size)  # of batches in an epoch
        done = total - min(loader.left(seen), max(by_limit, 1))
        steps += done // trainer.accumulate_grad_batches
    count_as_done(trainer, done)
    return steps


def seen_before(checkpoint: Mapping[str, Any]) -> tuple[int, int]:
    """(epoch, images of it) of a checkpoint that counts batches only, all of which but an epoch's last were whole."""
    size = checkpoint["datamodule_hyper_parameters"]["batch_size"]
    return checkpoint["epoch"], batches_begun(checkpoint) * size * checkpoint.get("training", {}).get("processes", 1)


class SamePhotos(Callback):
    """Holds what the photos show against what a checkpoint says, once the data module has compared their names."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Raises SIVTError on every process."""
        refuse_other_photos(data_of(trainer), checkpoint)
        refuse_other_regions(data_of(trainer), checkpoint)
