"""The findings as a page with pictures, and as tables."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sivt_lightning.check.checking import Checked
from sivt_lightning.check.finding import Finding, Kind
from sivt_lightning.check.unlike import Unlike
from sivt_lightning.data.depth import Depth
from sivt_lightning.data.images import read_image
from sivt_lightning.data.masks import read_mask
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import csv_text
from sivt_lightning.report.check_page import Entry, Picture, Section, check_page
from sivt_lightning.report.overlay import blended, normalised, outlined, scale_of
from sivt_lightning.report.page import html_table

MOST_ENTRIES, MOST_PICTURES = 30, 6  # of a kind, and of a finding
SIDE = 256  # pixels of a picture's longer side
USUAL = 0.999  # share of the positions of a product
Heat = Float[np.ndarray, "H W"]
TITLES: dict[Kind, tuple[str, str]] = {
    "unreadable": ("Cannot be read", "A training or a test ends at such a file."),
    "same file": (
        "The same file where it must not be",
        "In training and test, as good and as a defect, or of two products.",
    ),
    "wrong mask": ("Wrong masks", "Figures of pixels are measured by them. What they mark is outlined."),
    "no training": ("Nothing to train on", ""),
    "same picture": (
        "The same picture twice",
        "Compared without their light. Of a part that was photographed twice only one says something new.",
    ),
    "unlike its product": (
        "Good photos that look like none of their product",
        "Perhaps a defect among the good ones, another product, or a rare pose of which there should be more photos. "
        "Yellow is what no other photo of the product shows. All good photos in this order are in unlike.csv.",
    ),
    "doubtful mask": ("Masks to look at", "What they mark is outlined."),
    "light": ("Folders of another light", ""),
    "size": ("Photos of another kind", ""),
    "few photos": ("Few photos", ""),
}


def page_of(root: Path, checked: Checked) -> str:
    """check.html."""
    samples = {sample.path: sample for sample in checked.samples}
    heat = _heat_of(checked.unlike)
    sections = []
    for kind, of in groupby(checked.findings, lambda finding: finding.kind):
        found = list(of)
        entries = [
            Entry(short(f.sentence, root), _pictures(f, samples, checked.depth, heat, root))
            for f in found[:MOST_ENTRIES]
        ]
        sections.append(
            Section(f"{TITLES[kind][0]} ({len(found)})", TITLES[kind][1], entries, len(found) - len(entries))
        )
    heading, *rows = checked.table
    said = f"{len(checked.samples)} photos: {checked.said}."
    return check_page(f"Photos of {root}", said, [html_table(heading, rows, "What there is")], sections)


def findings_table(findings: Sequence[Finding]) -> str:
    """findings.csv: a row for each photo of each finding, one without a path where it is of none."""
    rows = [
        [
            str(number),
            finding.kind,
            "fault" if finding.is_fault else "remark",
            finding.category,
            path,
            finding.sentence,
        ]
        for number, finding in enumerate(findings, 1)
        for path in [*map(str, finding.paths)] or [""]
    ]
    return csv_text([["finding", "kind", "weight", "category", "path", "sentence"], *rows])


def _pictures(
    finding: Finding, samples: Mapping[Path, Sample], depth: Depth, heat: Mapping[Path, Heat], root: Path
) -> list[Picture]:
    pictures = []
    for path in finding.paths[:MOST_PICTURES]:
        if path not in samples:
            continue  # it cannot be read
        photo = read_image(path, depth).image
        photo.thumbnail((SIDE, SIDE))
        sample = samples[path]
        if "mask" in finding.kind and sample.mask_path is not None:
            try:
                photo = outlined(photo, read_mask(sample.mask_path).pixels)
            except SIVTError:  # which the finding says
                continue
        pictures.append(Picture(photo, short(str(path), root)))
        if finding.kind == "unlike its product":
            pictures.append(Picture(blended(photo, heat[path]), "what is unlike"))
    return pictures


def unlike_table(unlike: Sequence[Unlike]) -> str:
    """unlike.csv: the good photos of each category, that like no other first."""
    rows = [[photo.sample.category, f"{photo.beyond:.2f}", str(photo.sample.path)] for photo in unlike]
    return csv_text([["category", "deviations", "path"], *rows])


def _heat_of(unlike: Sequence[Unlike]) -> dict[Path, Heat]:
    """Of each photo places on the colour bar of overlays, whose first third few positions of its product leave."""
    categories: dict[str, list[Unlike]] = {}
    for photo in unlike:
        categories.setdefault(photo.sample.category, []).append(photo)
    heat = dict[Path, Heat]()
    for of in categories.values():
        scale = scale_of(float(np.quantile(np.stack([photo.map for photo in of]), USUAL)))
        heat |= {photo.sample.path: normalised(photo.map, scale) for photo in of}
    return heat


def short(text: str, root: Path) -> str:
    """Without the folder that all is in."""
    return text.replace(f"{root}/", "")
