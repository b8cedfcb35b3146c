"""Good photos that a model is calibrated with: those of its training, or others of its products."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.layouts import Sample, train_samples
from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.about import About
from sivt_lightning.inference.calibration import Calibration, Good, calibrate
from sivt_lightning.inference.models import Model

BATCH = 8  # as Predictor has it
MOST_TRAINED = 100  # photos of each product that the model has learned from
REMEDY = "Name a folder of good photos of its products."


class GoodPhotos:
    """Photos of good parts, by product.

    Args:
        data: how they are read.
        held_out: which the model has not learned from.
        trained: which it has.
        source: folder of them, where they are not those of the training; else "".
    """

    def __init__(
        self, data: SIVTDataModule, held_out: Sequence[Sample], trained: Sequence[Sample], source: str
    ) -> None:
        self.data, self.held_out, self.source = data, held_out, source
        self.trained = [sample for name in _names(trained) for sample in _some(trained, name)]

    @classmethod
    def of_training(cls, about: About, root: str | None = None) -> "GoodPhotos":
        """Those of a model's training, split as it was then; in `root`, where they have moved since.

        Raises SIVTError where they are not there, lack one of the model's products, or are split otherwise than then.
        """
        data = _data(about, root)
        there = _of_each(data)
        if missing := sorted(set(about.categories) - there.keys()):
            raise SIVTError(f"{data.root} has no photos of {', '.join(missing)}, as the training had. {REMEDY}")
        if about.categories and there.keys() - set(about.categories):
            data.categories = about.categories
            there = _of_each(data)
        before = about.held_out
        changed = [name for name, count in before.items() if there[name] != count]
        if changed and root is None:  # else photos that the model has learned from might be taken for held-out ones
            raise SIVTError(
                f"{data.root} is no longer what the model was trained on: of {changed[0]}, {there[changed[0]]} photos "
                f"would be held out, but {before[changed[0]]} were. {REMEDY}"
            )
        return cls(data, data.val_set.samples, data.train_set.samples, "")

    @classmethod
    def elsewhere(cls, about: About, folder: str, product: str | None = None) -> "GoodPhotos":
        """All in a folder of products, or of one, which are new to the model; `product` is what they show.

        Raises SIVTError where there are none.
        """
        data = _data(about, folder)
        samples, _ = train_samples(data.folder, None)
        if product is not None:
            samples = [Sample(sample.path, product) for sample in samples]
        return cls(data, samples, [], str(data.root))

    @classmethod
    def listed(cls, about: About, samples: Sequence[Sample], file: str) -> "GoodPhotos":
        """Those of a list, which are new to the model."""
        return cls(_data(about, str(Path(file).resolve().parent)), samples, [], str(Path(file).resolve()))

    @property
    def products(self) -> list[str]:
        """That they show."""
        return _names([*self.held_out, *self.trained])

    def counted(self) -> str:
        """How many there are, for people."""
        of = f"{len(self.held_out)} good photos of {len(self.products)} products"
        return f"{of}, and {len(self.trained)} that it was trained on" if self.trained else of

    def scaling(self) -> list[Float[Tensor, "_ 3 S S"]]:
        """Images by which int8 is scaled: as many of the training's as a new model's channels are measured on."""
        return list(self.data.calibration_batches())

    def measure(self, model: Model, false_alarms: float) -> Calibration:
        """What a model's numbers are on them. Raises SIVTError at a photo that cannot be read."""
        held_out, trained = (self.said(model, samples) for samples in (self.held_out, self.trained))
        return calibrate(held_out, trained, false_alarms, self.source)

    def said(self, model: Model, samples: Sequence[Sample]) -> dict[str, Good]:
        """What a model says of photos, by product."""
        parts = [Good.of(model(images)) for images in self._batches(samples)]
        if not parts:
            return {}
        every = Good(*(np.concatenate(numbers) for numbers in zip(*parts, strict=True)))
        names = np.array([sample.category for sample in samples])
        return {name: Good(*(numbers[names == name] for numbers in every)) for name in _names(samples)}

    def _batches(self, samples: Sequence[Sample]) -> Iterator[Float[Tensor, "B 3 S S"]]:
        return (batch.images for batch in self.data.batches(samples))


def _data(about: About, root: str | None) -> SIVTDataModule:
    """Reads photos as the training did."""
    settings = dict(about.data) | {"cache": "off", "eval_batch_size": BATCH, "image_size": about.image_size}
    settings |= {"depth": about.depth}
    if root is not None:
        settings |= {"root": root, "categories": None}
    if not settings.get("root") or not Path(str(settings["root"])).expanduser().is_dir():
        raise SIVTError(f"Good photos are needed, but {settings.get('root')} is no folder. {REMEDY}")
    data = SIVTDataModule(**settings)
    data.keep_depth()  # rather than decide one now, for a model that knows of none
    return data


def _of_each(data: SIVTDataModule) -> Counter[str]:
    """Held-out photos of each product. Raises SIVTError where there are none."""
    try:
        data.setup("fit")
    except SIVTError as error:
        raise SIVTError(f"The photos of the training are needed, and there are none: {error} {REMEDY}") from error
    return Counter(sample.category for sample in data.val_set.samples)


def _names(samples: Sequence[Sample]) -> list[str]:
    return sorted({sample.category for sample in samples})


def _some(samples: Sequence[Sample], name: str) -> list[Sample]:
    """At most 100 of a product, spread evenly."""
    own = [sample for sample in samples if sample.category == name]
    chosen = np.linspace(0, len(own) - 1, min(MOST_TRAINED, len(own))).round().astype(int)
    return [own[i] for i in chosen]
