"""Photos that an export is measured with: training images scale int8, held-out ones set the thresholds."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.thresholds import Held, Thresholds, held_of, thresholds_of
from sivt_lightning.model.detection import Detection

BATCH = 8  # as Predictor has it
FAR = 0.1  # of a threshold: narrow numbers move scores by hundredths
REMEDY = (
    "Name the data set of the training with --calibration, or, for fp32 and bf16, keep the checkpoint's thresholds "
    "with --keep_thresholds."
)


class Photos:
    """The data set of a model's training, split as it was then.

    Args:
        checkpoint: the contents of the model's.
        root: where the data set lies now, or other good photos of the same products; None for where training found it.

    Raises SIVTError where it is not there, lacks one of the model's categories, or holds out other numbers than then.
    """

    def __init__(self, checkpoint: dict[str, Any], root: str | None) -> None:
        stored = checkpoint["datamodule_hyper_parameters"]
        settings = {name: value for name, value in stored.items() if not name.startswith("_")}
        settings |= {"cache": "off", "eval_batch_size": BATCH}
        self.trained, self.given = Thresholds.from_plain(checkpoint["thresholds"]), root is not None
        trained = self.trained.categories
        if self.given:
            settings |= {"root": root, "categories": None}
        if not Path(str(settings["root"])).expanduser().is_dir():
            raise SIVTError(f"An export is measured with photos, but {settings['root']} is no folder. {REMEDY}")
        self.data = SIVTDataModule(**settings)
        self.data.keep_depth()  # rather than decide one now, for a model that knows of none
        self.root = self.data.root
        there = self._held_out_of_each()
        if missing := sorted(trained.keys() - there):
            raise SIVTError(f"{self.root} has no photos of {', '.join(missing)}, as the training had. {REMEDY}")
        if there.keys() - trained:
            self.data.categories = sorted(trained)
            there = self._held_out_of_each()
        changed = [name for name, threshold in trained.items() if there[name] != threshold.images]
        if changed and not self.given:  # else photos that the model has learned from might be taken for held-out ones
            raise SIVTError(
                f"{self.root} is no longer what the model was trained on: of {changed[0]}, {there[changed[0]]} photos "
                f"would be held out, but {trained[changed[0]].images} were. {REMEDY}"
            )

    def training(self) -> list[Float[Tensor, "_ 3 S S"]]:
        """As many as a new model's channels are measured on."""
        return list(self.data.calibration_batches())

    def held_out(self) -> Iterator[tuple[Sequence[str], Float[Tensor, "B 3 S S"]]]:
        """Batches, with the category of each photo. Raises SIVTError at one that cannot be read."""
        for batch in self.data.val_dataloader():
            self.data.on_before_batch_transfer(batch, 0)
            yield [self.data.val_set.samples[place].category for place in batch.index.tolist()], batch.images

    def check(self, thresholds: Thresholds) -> None:
        """Raises SIVTError where thresholds measured on the photos of the training are far from those that it found."""
        pairs = [("all categories", thresholds.pooled, self.trained.pooled)]
        pairs += [(name, own, self.trained.categories[name]) for name, own in thresholds.categories.items()]
        for name, own, theirs in pairs:
            if not self.given and abs(own.image - theirs.image) > FAR * theirs.image:
                raise SIVTError(
                    f"The threshold of {name} is {own.image:.4g} by the exported file's scores, but "
                    f"{theirs.image:.4g} by the checkpoint's: {self.root} has changed since the training, or the "
                    f"precision is too narrow for this model. {REMEDY}"
                )

    def _held_out_of_each(self) -> Counter[str]:
        try:
            self.data.setup("fit")
        except SIVTError as error:
            raise SIVTError(f"An export is measured with photos, and there are none: {error} {REMEDY}") from error
        return Counter(sample.category for sample in self.data.val_set.samples)


def measured(
    model: Callable[[Float[Tensor, "B 3 S S"]], Detection],
    photos: Iterator[tuple[Sequence[str], Float[Tensor, "B 3 S S"]]],
    quantile: float,
) -> Thresholds:
    """Those of a model, by its own scores of held-out photos."""
    held: list[Held] = []
    for categories, images in photos:
        held += held_of(categories, *model(images))
    return thresholds_of(held, quantile)
