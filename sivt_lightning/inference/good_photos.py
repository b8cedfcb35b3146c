"""Good photos that a model is calibrated with: those of its training, or others of its products."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.data.datamodule import CALIBRATION_IMAGES, SIVTDataModule
from sivt_lightning.data.dataset import Batch
from sivt_lightning.data.layouts import train_samples
from sivt_lightning.data.lists import is_list
from sivt_lightning.data.samples import Sample
from sivt_lightning.data.urls import path_of
from sivt_lightning.errors import SIVTError, listing
from sivt_lightning.inference.about import About
from sivt_lightning.inference.calibration import Calibration, Good, calibrate
from sivt_lightning.inference.marked_photos import read_marked
from sivt_lightning.inference.models import Model
from sivt_lightning.inference.photo_lists import read_list
from sivt_lightning.inference.photos import look
from sivt_lightning.model.detection import Detection
from sivt_lightning.state.reading import is_state

BATCH = 8  # as Predictor has it
MOST_TRAINED = 100  # photos of each product that the model has learned from
REMEDY = "Name a folder of good photos of its products with --good."
Inspected = Callable[[Detection, Sequence[str]], Detection]  # a batch and the products of its photos


class GoodPhotos:
    """Photos of good parts, by product.

    Args:
        data: how they are read.
        held_out: which the model has not learned from.
        trained: which it has.
        source: folder of them, where they are not those of the training; else "".
        remembered: a calibration whose numbers count as held-out ones, too, where its photos are not there.
    """

    def __init__(
        self,
        data: SIVTDataModule,
        held_out: Sequence[Sample],
        trained: Sequence[Sample],
        source: str,
        remembered: Calibration | None = None,
    ) -> None:
        self.data, self.held_out, self.source, self.remembered = data, held_out, source, remembered
        by_product = [[sample for sample in trained if sample.category == name] for name in _names(trained)]
        self.trained = [sample for own in by_product for sample in _spread(own, MOST_TRAINED)]
        self.scaled = _spread(trained or held_out, CALIBRATION_IMAGES)

    @classmethod
    def of_training(cls, about: About, root: str | None = None, remedy: str = REMEDY) -> "GoodPhotos":
        """Those of a model's training, split as it was then; in `root`, where they have moved since.

        `remedy`: what to do where they cannot be had.

        Raises SIVTError where they are not there, lack one of the model's products, or are split otherwise than then.
        """
        data = _data(about, root, remedy)
        there = _of_each(data, remedy)
        if missing := sorted(set(about.categories) - there.keys()):
            raise SIVTError(f"{data.root} has no photos of {', '.join(missing)}, as the training had. {remedy}")
        if about.categories and there.keys() - set(about.categories):
            data.categories = about.categories
            there = _of_each(data, remedy)
        before = about.held_out
        changed = [name for name, count in before.items() if there[name] != count]
        if changed and root is None:  # else photos that the model has learned from might be taken for held-out ones
            raise SIVTError(
                f"{data.root} is no longer what the model was trained on: of {changed[0]}, {there[changed[0]]} photos "
                f"would be held out, but {before[changed[0]]} were. {remedy}"
            )
        return cls(data, data.val_photos, data.train_photos, "" if root is None else str(data.root))

    @classmethod
    def again(cls, about: About, remedy: str = REMEDY) -> "GoodPhotos":
        """Those that the model was calibrated with; if other than those of its training, perhaps not of all products.

        Raises SIVTError where they are not there, or show products that it does not know.
        """
        source = about.calibration.source if about.calibration else ""
        if not source:
            return cls.of_training(about, None, remedy)
        if is_state(path_of(source)):
            return cls._marked_again(about, source, remedy)
        if not path_of(source).exists():
            raise SIVTError(f"The model was calibrated with good photos in {source}, which is not there. {remedy}")
        listed = is_list(source)
        photos = cls.listed(about, read_list(path_of(source)).good, source) if listed else cls.elsewhere(about, source)
        if foreign := [name for name in photos.products if name not in about.categories]:
            raise SIVTError(
                f"The model was calibrated with good photos in {source}, which lie there as {listing(foreign)}: what "
                f"they show was told with --category. {remedy}"
            )
        return photos

    @classmethod
    def elsewhere(cls, about: About, folder: str, product: str | None = None) -> "GoodPhotos":
        """All in a folder of products, or of one, which are new to the model; `product` is what they show.

        Raises SIVTError where there are none.
        """
        data = _data(about, folder)
        samples, _ = train_samples(data.source, None)
        if product is not None:
            samples = [Sample(sample.path, product) for sample in samples]
        return cls(data, samples, [], str(data.root))

    @classmethod
    def listed(cls, about: About, samples: Sequence[Sample], file: str) -> "GoodPhotos":
        """Those of a list, which are new to the model."""
        place = path_of(file).resolve()
        return cls(_data(about, str(place.parent)), samples, [], str(place))

    @classmethod
    def marked(cls, about: About, samples: Sequence[Sample], folder: str) -> "GoodPhotos":
        """Those that people have marked in a server's folder, beside those of their products that the model was
        calibrated with; of these the numbers alone, where the photos are not there.

        Raises SIVTError where marks would count twice.
        """
        names, place = set(_names(samples)), str(path_of(folder).resolve())
        source = about.calibration.source if about.calibration else ""
        marks = bool(source) and is_state(path_of(source))  # of which those that still count are among `samples`
        try:
            own = cls.of_training(about) if marks else cls.again(about)
        except SIVTError as error:
            if marks:
                raise SIVTError(
                    f"The model was calibrated with photos marked in {source}, which would count twice, since those of "
                    "its training are not there: calibrate the file that it was made from."
                ) from error
            known = about.calibration if about.calibration and names <= about.calibration.products.keys() else None
            return cls(_data(about, place), samples, [], place, known)
        held_out, trained = ([one for one in of if one.category in names] for of in (own.held_out, own.trained))
        return cls(own.data, [*held_out, *samples], trained, place)

    @classmethod
    def _marked_again(cls, about: About, source: str, remedy: str) -> "GoodPhotos":
        own, marked = cls.of_training(about, None, remedy), read_marked(path_of(source)).good
        held_out = [*own.held_out, *marked]
        counts, known = Counter(sample.category for sample in held_out), about.calibration
        if known is None or any(counts[name] != of.score.held_out for name, of in known.products.items()):
            raise SIVTError(
                f"The model was calibrated with photos marked in {source}, and these, or those of the training, are no "
                f"longer the same: calibrate it again. {remedy}"
            )
        return cls(own.data, held_out, own.trained, source)

    @property
    def products(self) -> list[str]:
        """That they show."""
        return _names([*self.held_out, *self.trained])

    def counted(self) -> str:
        """How many there are, for people."""
        if self.remembered is not None:
            counts = [self.remembered.products[name].score.held_out for name in self.products]
            own = "as the photos of its calibration are not there"
            return f"{len(self.held_out)} marked photos and the numbers of {sum(counts)} earlier ones, {own}"
        of = f"{len(self.held_out)} good photos of {len(self.products)} products"
        return f"{of}, and {len(self.trained)} that it was trained on" if self.trained else of

    def scaling(self) -> list[Float[Tensor, "_ 3 S S"]]:
        """Images by which int8 is scaled, of the training where these are: as many as a new model is measured on.

        Of photos that are cut each gives one of its tiles, in turn.
        """
        return [batch.images[_in_turn(batch)] for batch in self.data.batches(self.scaled)]

    def measure(self, model: Model, false_alarms: float) -> Calibration:
        """What a model's numbers are on them. Raises SIVTError at a photo that cannot be read."""
        inspected = model.about.inspection
        held_out, trained = (self.said(model, samples, inspected) for samples in (self.held_out, self.trained))
        if self.remembered is None:
            return calibrate(held_out, trained, false_alarms, self.source)
        numbers = {name: good.beside(self.remembered.products[name]) for name, good in held_out.items()}
        return replace(calibrate(numbers, {}, false_alarms, self.source), recogniser=self.remembered.recogniser)

    def said(self, model: Model, samples: Sequence[Sample], inspected: Inspected) -> dict[str, Good]:
        """What a model says of photos, by product, of what is inspected of them."""
        parts = []
        for batch in self.data.batches(samples):
            found = look(model, batch.images, batch.grids)
            parts.append(Good.of(inspected(found, [samples[i].category for i in batch.index.tolist()])))
        if not parts:
            return {}
        every = Good(*(np.concatenate(numbers) for numbers in zip(*parts, strict=True)))
        names = np.array([sample.category for sample in samples])
        return {name: Good(*(numbers[names == name] for numbers in every)) for name in _names(samples)}


def _data(about: About, root: str | None, remedy: str = REMEDY) -> SIVTDataModule:
    """Reads photos as the training did."""
    settings = dict(about.data) | {"cache": "off", "eval_batch_size": BATCH, "image_size": about.image_size}
    settings |= {"depth": about.depth}
    if root is not None:
        settings |= {"root": root, "categories": None, "layout": None}
    place = path_of(str(settings.get("root") or ""))
    if not settings.get("root") or not (place.is_dir() or is_list(place)):
        raise SIVTError(f"Good photos are needed, but {settings.get('root')} is no folder. {remedy}")
    data = SIVTDataModule(**settings)
    data.keep_depth()  # rather than decide one now, for a model that knows of none
    return data


def _of_each(data: SIVTDataModule, remedy: str) -> Counter[str]:
    """Held-out photos of each product. Raises SIVTError where there are none."""
    try:
        data.setup("fit")
    except SIVTError as error:
        raise SIVTError(f"The photos of the training are needed, and there are none: {error} {remedy}") from error
    return Counter(sample.category for sample in data.val_photos)


def _names(samples: Sequence[Sample]) -> list[str]:
    return sorted({sample.category for sample in samples})


def _spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most so many, spread evenly."""
    chosen = np.linspace(0, len(samples) - 1, min(most, len(samples))).round().astype(int)
    return [samples[i] for i in chosen]


def _in_turn(batch: Batch) -> list[int]:
    """One image of each photo of a batch."""
    ends = np.cumsum([grid.images for grid in batch.grids]).tolist()
    numbers = zip(batch.index.tolist(), ends, batch.grids, strict=True)
    return [end - grid.images + place % grid.images for place, end, grid in numbers]
