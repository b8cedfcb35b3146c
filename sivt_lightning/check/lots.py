"""What differs between the photos of a product that should differ in the parts alone, and how few there are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sivt_lightning.check.finding import Finding
from sivt_lightning.check.looks import Look
from sivt_lightning.data.masks import of_one_shape
from sivt_lightning.data.samples import Sample, hold_out
from sivt_lightning.errors import listing
from sivt_lightning.inference.calibration import needed, percent

LEAST_OF_LOT = 5  # photos, below which a folder says nothing of its light
BEYOND = 4.0  # deviations within the folders, by which the light of one may differ from that of all others
LEAST_STEP = 5.0  # grey levels, too few to matter
HELD_OUT = 0.1  # share of the good photos, as data.val_share has it by default
START = 30  # photos of good parts


def light_of_lots(category: str, samples: Sequence[Sample], looks: Mapping[Path, Look]) -> list[Finding]:
    """A finding for each folder of good photos that are lighter or darker than those of the others."""
    light = {
        folder: np.array([looks[sample.path].light for sample in of])
        for folder, of in _folders([sample for sample in samples if not sample.anomalous]).items()
        if len(of) >= LEAST_OF_LOT
    }
    if len(light) < 2:
        return []
    usual = {folder: float(np.median(values)) for folder, values in light.items()}
    within = np.concatenate([values - usual[folder] for folder, values in light.items()])
    limit = max(BEYOND * 1.4826 * float(np.median(np.abs(within))), LEAST_STEP)
    findings = []
    largest = max(light, key=lambda folder: len(light[folder]))
    for folder, level in usual.items():
        if len(light) == 2 and folder == largest:  # of two, the other one differs as much
            continue
        others = float(np.median(np.concatenate([values for other, values in light.items() if other != folder])))
        if abs(level - others) > limit:
            word = "lighter" if level > others else "darker"
            sentence = (
                f"{folder}: its {len(light[folder])} good photos of {category} are {word} than the others (grey level "
                f"{level:.0f} beside {others:.0f} of 255). Train with photos of both lights, or good parts of one will "
                "be called anomalous."
            )
            of = [sample.path for sample in samples if sample.path.parent == folder]
            findings.append(Finding("light", category, sentence, of))
    return findings


def sizes_of_lots(category: str, samples: Sequence[Sample], looks: Mapping[Path, Look]) -> list[Finding]:
    """Findings for photos whose proportions, size or colour are not those of most photos of the product."""
    findings = []
    of = [looks[sample.path] for sample in samples]
    sizes = Counter((look.width, look.height) for look in of)
    usual = width, height = sizes.most_common(1)[0][0]
    alike = [of_one_shape((look.width, look.height), usual) for look in of]
    squeezed = [sample.path for sample, same in zip(samples, alike, strict=True) if not same]
    if squeezed:
        sentence = (
            f"{len(squeezed)} of {len(samples)} photos of {category} have other proportions than {width} x {height}, "
            "and all are squeezed to the same square: parts in them look wider or narrower. Cut them alike: "
            f"{listing(map(str, squeezed))}."
        )
        findings.append(Finding("size", category, sentence, squeezed))
    other = [
        sample.path
        for sample, look, same in zip(samples, of, alike, strict=True)
        if same and not 0.5 < look.width / width < 2
    ]
    if other:
        sentence = (
            f"{len(other)} of {len(samples)} photos of {category} are of less than half or more than twice the size "
            f"of the others, {width} x {height}, and so sharper or softer than these: {listing(map(str, other))}."
        )
        findings.append(Finding("size", category, sentence, other))
    grey = [sample.path for sample, look in zip(samples, of, strict=True) if look.is_grey]
    colour = [sample.path for sample, look in zip(samples, of, strict=True) if not look.is_grey]
    if grey and colour:
        fewer, word = min((grey, "grey"), (colour, "in colour"), key=lambda part: len(part[0]))
        sentence = (
            f"{len(fewer)} of {len(samples)} photos of {category} are {word} and the others are not: take them with "
            f"one camera, or convert them: {listing(map(str, fewer))}."
        )
        findings.append(Finding("size", category, sentence, fewer))
    return findings


def few_photos(category: str, samples: Sequence[Sample], false_alarms: float) -> list[Finding]:
    """Findings for a product that has nothing to train on, or too little for what is promised."""
    good = [sample for sample in samples if is_learned(sample)]
    if len(good) < 2:
        sentence = (
            f"{category} has {len(good)} photo(s) of good parts to train on, but {len(samples)} others: add good ones, "
            "at best 100 or more."
        )
        return [Finding("no training", category, sentence)]
    held_out = len(hold_out(good, HELD_OUT, 0)[1])
    enough = needed(false_alarms)
    sentences = []
    if len(good) < START:
        sentences.append(f"{category} has {len(good)} good photos to train on: {START} are a start, 100 to 300 good.")
    if held_out < enough:
        sentences.append(
            f"{category}: {held_out} of its {len(good)} good photos are held out, but to promise that "
            f"{percent(false_alarms)} of good parts are called anomalous takes {enough}: that share will be an "
            f"estimate. {enough} photos in validation/good, or {round(enough / HELD_OUT)} in train/good, make it a "
            "promise."
        )
    return [Finding("few photos", category, sentence) for sentence in sentences]


def is_learned(sample: Sample) -> bool:
    """Whether a training learns from a photo, or holds it out."""
    return sample.split in ("train", "validation") and not sample.anomalous


def _folders(samples: Sequence[Sample]) -> dict[Path, list[Sample]]:
    folders: dict[Path, list[Sample]] = {}
    for sample in samples:
        folders.setdefault(sample.path.parent, []).append(sample)
    return folders
