"""The LightningModule: wires detector, loss and optimizer."""

import math
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from lightning import LightningModule
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from sivt_lightning.data.datamodule import SIVTDataModule, data_of
from sivt_lightning.data.dataset import Batch
from sivt_lightning.data.depth import check_depth
from sivt_lightning.data.grid import TILE
from sivt_lightning.errors import SIVTError
from sivt_lightning.features.key import feature_key
from sivt_lightning.features.store import FeatureBatch
from sivt_lightning.inference.checkpoint import read_checkpoint, same_setting
from sivt_lightning.inference.formats import FORMAT
from sivt_lightning.inference.inspection import Inspection
from sivt_lightning.inference.thresholds import Thresholds
from sivt_lightning.model.detector import build_detector
from sivt_lightning.model.loss import reconstruction_loss
from sivt_lightning.model.settings import ModelSettings, names_of
from sivt_lightning.model.weights import load_weights
from sivt_lightning.training.continuation import epoch_steps, seen_before, steps_done
from sivt_lightning.training.draws import gains_of, partitions_of, pieces_of
from sivt_lightning.training.inspecting import inspected_positions
from sivt_lightning.training.optimizer import Schedule, build_optimizer, rates_of, restore_rates
from sivt_lightning.training.recording import BatchLoss, RecordedLoss
from sivt_lightning.training.remembering import remember

# What a model must have in common with the one whose weights it starts from.
SAME = names_of("features", "shape")
BANK = "detector.memory_bank."


class Validation(NamedTuple):
    """A Detection of held-out images, of what is inspected of them, and the training's loss on each."""

    score: Float[Tensor, " B"]
    map: Float[Tensor, "B S S"]
    residual: Float[Tensor, "B H W"]
    loss: Float[Tensor, " B"]


class SIVT(LightningModule):
    """Self-induction vision transformer: one anomaly detector for many categories, trained on normal images only.

    Takes the settings of `ModelSettings` by name.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = ModelSettings(**settings)
        self.save_hyperparameters(asdict(self.settings))
        self.detector = build_detector(self.settings)
        self.batch_loss = BatchLoss(self.detector.reconstructor, self.settings.cosine_weight)
        self.inspection = Inspection(asdict(self.settings))
        self.thresholds: Thresholds | None = None
        self.thresholds_step: int | None = None  # at which they were found, on the weights of then

    def on_fit_start(self) -> None:
        """Weights, statistics and memory bank for a new training, and the features that the data module keeps."""
        new = not self.detector.calibrated  # a continued training has them from its checkpoint by now
        if new:
            self._begin()
        # Several processes exchange gradients while others are computed; a replay would hand over all at the end.
        alone = isinstance(self.trainer.strategy, SingleDeviceStrategy)
        kind = RecordedLoss if alone and self.device.type == "cuda" else BatchLoss
        # Anew for each training: a strategy may have wrapped the reconstructor.
        self.batch_loss = kind(self.detector.reconstructor, self.settings.cosine_weight)
        network, data = self.detector.backbone, data_of(self.trainer)
        if data.tiles.cut and network.grid % TILE:
            raise SIVTError(
                f"data.tiles is {data.tiles.text}, but the feature map's side of {network.grid} (model.image_size over "
                f"feature_stride) is no multiple of {TILE}: choose an image_size of {TILE} times the stride, or more."
            )
        self.inspection = Inspection(asdict(self.settings), data.regions)
        key = feature_key(self.detector, str(self.trainer.precision), self.device.type, data.preprocessing())
        data.keep_features(self.frozen_features, (network.channels, network.grid, network.grid), key)
        if new and self.detector.memory_bank:
            remember(self.detector.memory_bank, data, self._frozen_features_of, self.settings.seed)

    def on_train_start(self) -> None:
        """A checkpoint is restored by now, with rates and counts of batches as they were before it."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        scheduler: Any = self.lr_schedulers()
        self.schedule.ahead = steps_done(self.trainer) - scheduler.last_epoch
        restore_rates(optimizer, scheduler, self.rates)

    def on_fit_end(self) -> None:
        """Gives back the memory of a recorded step."""
        self.batch_loss = BatchLoss(self.detector.reconstructor, self.settings.cosine_weight)

    def _begin(self) -> None:
        if self.settings.init_from:
            self._start_from(self.settings.init_from)
        else:
            load_weights(self.detector.backbone, self.settings.weights, self.settings.seed)
            batches = data_of(self.trainer).calibration_batches()
            self.detector.calibrate(images.to(self.device) for images in batches)

    def frozen_features(self, images: Tensor) -> Tensor:
        """F in the training's precision, on any thread."""
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            return self.detector.features(images.to(self.device))

    def _frozen_features_of(self, batch: Batch | FeatureBatch) -> Tensor:
        return batch.features.float() if isinstance(batch, FeatureBatch) else self.frozen_features(batch.images)

    def _start_from(self, path: str) -> None:
        """Raises SIVTError where that model is another than this one."""
        checkpoint = read_checkpoint(path)
        theirs = checkpoint["hyper_parameters"]
        for name in SAME:
            if not same_setting(theirs[name], value := getattr(self.settings, name)):
                raise SIVTError(
                    f"model.{name} is {value}, but the model of init_from {path} has {theirs[name]}: weights fit "
                    "into a model of the same shape only. Leave out the config and --model options that say otherwise."
                )
        # What it remembers is of its training's images, and chosen anew.
        weights = {name: value for name, value in checkpoint["state_dict"].items() if not name.startswith(BANK)}
        self.load_state_dict(self.state_dict() | weights)

    def training_step(self, batch: Batch | FeatureBatch, batch_idx: int) -> Tensor:
        features = self.features(batch)
        partitions, gains = self.draw_partitions(batch.index), self.draw_gains(batch.index)
        pieces, inspected = self.draw_pieces(features, batch.index), self._inspected(batch.index)
        loss = self.batch_loss(features, partitions, gains, pieces, inspected)
        self._log_loss(loss.detach(), len(features))
        return loss

    def _log_loss(self, loss: Tensor, images: int) -> None:
        """Over all processes. To exchange that of a step takes time, so only what is written down is exchanged."""
        trainer: Any = self.trainer
        settings: dict[str, Any] = {"batch_size": images, "prog_bar": True}
        self.log("train/loss_epoch", loss, on_step=False, on_epoch=True, sync_dist=True, **settings)
        if trainer.world_size == 1:
            self.log("train/loss_step", loss, **settings)
        elif trainer.log_every_n_steps and (trainer.global_step + 1) % trainer.log_every_n_steps == 0:
            self.log("train/loss_step", trainer.strategy.reduce(loss.clone(), reduce_op="mean"), **settings)

    def features(self, batch: Batch | FeatureBatch) -> Tensor:
        """F of a batch, whether computed now or kept."""
        return batch.features.float() if isinstance(batch, FeatureBatch) else self.detector.features(batch.images)

    def draw_partitions(self, index: Tensor) -> Tensor:
        """Anew for each image and epoch, the same however the images are spread over batches and processes."""
        return partitions_of(self.detector.reconstructor, index, self._key)

    def draw_gains(self, index: Tensor) -> Tensor | None:
        """Which latent values are dropped; as independent of batches and processes as the partitions."""
        return gains_of(self.detector.reconstructor, self.settings.latent_dropout, index, self._key)

    def draw_pieces(self, features: Tensor, index: Tensor) -> Tensor | None:
        """F with pieces in wrong places, where the model is to restore it; drawn as the others are."""
        return pieces_of(features, self.settings.pasted, index, self._key)

    def _inspected(self, index: Tensor) -> Tensor | None:
        """Positions that count of images that are trained on, or validated."""
        if not self.inspection.regions:
            return None
        data = data_of(self.trainer)
        images = data.train_set if self.trainer.training else data.val_set
        return inspected_positions(data, images, index, self.current_epoch, self.detector.backbone.grid)

    @property
    def _key(self) -> tuple[int, int]:
        return self.settings.seed, self.current_epoch

    # Lightning would have evaluation steps return mappings, but hands whatever they return to the callbacks.
    def validation_step(self, batch: Batch | FeatureBatch, batch_idx: int) -> Validation:  # type: ignore[override]
        features = self.features(batch)
        detection, reconstruction = self.detector.detect(features)
        inspected = self._inspected(batch.index)
        if inspected is not None:
            samples = data_of(self.trainer).val_set.samples
            regions = [data_of(self.trainer).region_of(samples[i]) for i in batch.index.tolist()]
            detection = self.inspection.within(detection, regions)
        assert isinstance(detection.map, Tensor)
        assert isinstance(detection.residual, Tensor)
        loss = reconstruction_loss(features, reconstruction, self.settings.cosine_weight, inspected)
        self.log("val/loss", loss.mean(), prog_bar=True, batch_size=len(features), sync_dist=True)
        return Validation(detection.score, detection.map, detection.residual, loss)

    def configure_optimizers(self) -> Any:
        """The optimizer; linear warm-up, then cosine or constant, stepped with it."""
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        optimizer = build_optimizer(self.detector.reconstructor, self.settings.optimizer, rate, decay)
        self.rates = rates_of(optimizer)
        trainer = self.trainer
        if math.isinf(trainer.estimated_stepping_batches):  # which also has the number of batches counted
            raise SIVTError("The learning-rate schedule needs an end of training: set trainer.max_epochs to 1 or more.")
        by_epochs = math.inf if trainer.max_epochs == -1 else epoch_steps(trainer) * max(trainer.max_epochs or 1, 1)
        by_steps = math.inf if trainer.max_steps == -1 else max(trainer.max_steps, 1)
        cosine = self.settings.schedule == "cosine"
        self.schedule = schedule = Schedule(by_epochs, by_steps, self.settings.warmup, cosine)
        # A checkpoint would hold what is in an object, but nothing of a function.
        scheduler = LambdaLR(optimizer, lambda step: schedule(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Beside the weights, what `test` and `predict` need and a state_dict does not hold."""
        # The weights have moved since where validations are rarer than epochs, or a training was stopped within one.
        own = self.thresholds_step == self.trainer.global_step
        checkpoint["thresholds"] = asdict(self.thresholds) if self.thresholds and own else None
        checkpoint["format_number"] = FORMAT
        checkpoint["precision"] = str(self.trainer.precision)
        checkpoint["regions"] = self.inspection.plain()
        checkpoint["training"] = self._training()

    def _training(self) -> dict[str, Any]:
        """The Trainer's settings that change what is learned or saved, and the images learned from."""
        trainer = self.trainer
        best: Any = trainer.checkpoint_callback
        stopping: Any = trainer.early_stopping_callback
        return {
            "max_epochs": trainer.max_epochs,
            "max_steps": trainer.max_steps,
            "processes": trainer.world_size,
            "accumulate_grad_batches": trainer.accumulate_grad_batches,
            "gradient_clip_val": trainer.gradient_clip_val,
            "monitor": best and best.monitor,
            "patience": stopping and stopping.patience,
            "images": data_of(trainer).training_images if trainer.is_global_zero else None,
            "limit_val_batches": str(trainer.limit_val_batches),  # 1 is a batch, 1.0 are all
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises SIVTError where the checkpoint's weights are not this model's."""
        own, stored_weights = self.state_dict(), checkpoint["state_dict"]
        shapes = {name: tuple(value.shape) for name, value in own.items()}
        if shapes != {name: tuple(value.shape) for name, value in stored_weights.items()}:
            raise SIVTError(
                "The checkpoint holds a model of another shape than the settings given: leave out the --model options "
                "and the config, which the checkpoint brings along, or train a new model."
            )
        if self.trainer.state.fn == "fit" and "SIVTDataModule" not in checkpoint:  # of an earlier version
            data_of(self.trainer).progress.set(*seen_before(checkpoint))
        stored = checkpoint.get("thresholds")
        data: SIVTDataModule | None = getattr(self.trainer, "datamodule", None)
        if data is not None:  # a test may also be given batches by hand
            check_depth(data.depth, checkpoint["datamodule_hyper_parameters"].get("depth"))
        self.thresholds = Thresholds.from_plain(stored) if stored else None
        self.thresholds_step = checkpoint["global_step"]
