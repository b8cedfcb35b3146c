"""What a new calibration changes, and what it is worth by photos of defects."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.about import About
from sivt_lightning.inference.calibration import Calibration, Good, percent
from sivt_lightning.inference.good_photos import GoodPhotos
from sivt_lightning.inference.judge import Asked, ProductJudge
from sivt_lightning.inference.marked_photos import Marked
from sivt_lightning.inference.models import Model
from sivt_lightning.model.detection import Detection

SHARES = (0.005, 0.01, 0.02, 0.05, 0.1)  # of good parts, at which defects are counted


def moved(before: Calibration | None, now: Calibration, products: Sequence[str]) -> Iterator[str]:
    """A sentence for each product: its threshold before and now."""
    share = now.false_alarms
    for name in products:
        score = now.products[name].score
        said = f"{name}: at {percent(share)} false alarms the threshold is {score.threshold(share):.4g}"
        if before is not None and name in before.products:
            said += f", it was {before.products[name].score.threshold(share):.4g}"
        elif before is not None:
            said += "; the model was not trained on this product, so it finds few of its defects: train it with them"
        photos = f"{score.held_out} good photos"
        yield f"{said}. It rests on {photos}{f' and {score.trained} of the training' if score.trained else ''}."


def learned(about: About, photos: GoodPhotos) -> str:
    """What to know where the model has learned from some of the photos, or ""; they are told by their places."""
    try:
        own = GoodPhotos.of_training(about).data.train_photos
    except SIVTError:
        return ""  # the training's photos are not there
    known = {sample.path.resolve() for sample in own}
    count = sum(sample.path.resolve() in known for sample in photos.held_out)
    if not count:
        return ""
    return (
        f"{count} of the good photos are those that the model was trained on. It knows these, so new good parts score "
        "higher, and more of them than promised are called anomalous: give photos taken since."
    )


def said_of(
    model: Model, calibration: Calibration, photos: GoodPhotos, defects: Mapping[str | None, Sequence[Path]]
) -> dict[str, Good]:
    """What the model says of defects, by product, "" where it is to be recognised."""
    samples = [Sample(path, name or "", anomalous=True) for name, paths in defects.items() for path in paths]
    judge_of_regions = ProductJudge(calibration, Asked(), model.about.inspection)

    def inspected(detection: Detection, names: Sequence[str]) -> Detection:
        return judge_of_regions.inspected(detection, [name or None for name in names])

    return photos.said(model, samples, inspected)


def verdicts_on(calibration: Calibration, said: Mapping[str, Good], share: float) -> list[str]:
    """At this share of false alarms."""
    judge = ProductJudge(calibration, Asked(false_alarms=share))
    return [
        one.verdict
        for name, of in said.items()
        for one in judge.judged(of.scores, of.descriptors, [name or None] * len(of.scores))
    ]


def found_of(calibration: Calibration, said: Mapping[str, Good]) -> Iterator[str]:
    """How many defects are found, and the cost curve: what fewer misses cost in false alarms."""
    unknown = verdicts_on(calibration, said, calibration.false_alarms).count("unknown")
    every = sum(len(of.scores) for of in said.values())
    yield f"Of {every} defects, {unknown} look like none of the products, and so do not pass either. Found:"
    for share in sorted({*SHARES, calibration.false_alarms}):
        missed = verdicts_on(calibration, said, share).count("normal")
        yield f"  at {percent(share):>5} false alarms {every - missed} of {every}, {missed} missed"


def confirmed(before: Calibration | None, now: Calibration, marked: Marked, said: Mapping[str, Good]) -> Iterator[str]:
    """A sentence for each product that people have marked parts of: its threshold, and the recall of its defects."""
    share, good = now.false_alarms, Counter(sample.category for sample in marked.good)
    known = before if before is not None else now
    for name in sorted({*good, *filter(None, said)} & known.products.keys()):
        was, is_now = (f"{of.products[name].score.threshold(share):.3g}" for of in (known, now))
        alarms = marked.false_alarms[name]
        others = f" and {good[name] - alarms} other parts" if good[name] > alarms else ""
        sentence = f"{alarms} false alarms{others} confirmed good: threshold of {name} {was} to {is_now}"
        if name in said:
            own, count = {name: said[name]}, len(said[name].scores)
            then, found = (count - verdicts_on(of, own, share).count("normal") for of in (known, now))
            change = f"stays {found}" if found == then else f"goes from {then} to {found}"
            sentence += f"; recall on your {count} confirmed defects {change} of {count}"
        yield f"{sentence}."
    alarms = marked.false_alarms.total()
    if alarms > 2 * share * len(marked.good):
        yield (
            f"Of {len(marked.good)} parts marked good {alarms} had been called anomalous, as good parts seldom are: "
            f"they raise the thresholds, and fewer than {percent(share)} of all good parts will be called so. Confirm "
            "parts that passed, too, for thresholds that keep to it."
        )
