"""The layout of Real-IAD: five views of each part, split by lists beside the products.

realiad_1024/CATEGORY/OK/S0001/*_C1_*.jpg
realiad_1024/CATEGORY/NG/DEFECT/S0001/*_C1_*.jpg      masks beside them: .png
realiad_jsons/realiad_jsons/CATEGORY.json             (or realiad_jsons/CATEGORY.json)
"""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from sivt_lightning.data.folders import child, contents, images, sub_folders
from sivt_lightning.data.layouts.layout import Category, Inside, Layout, only_good, parted, samples_of
from sivt_lightning.data.samples import Sample, Selection, Split
from sivt_lightning.errors import SIVTError, listing

LISTS = ("realiad_jsons/realiad_jsons", "realiad_jsons", "realiad_jsons_sv", "realiad_jsons/realiad_jsons_sv")
SIZES = re.compile(r"realiad_(?:\d+|raw)", re.IGNORECASE)
PART = re.compile(r"S\d+", re.IGNORECASE)


class RealIAD(Layout):
    """Real-IAD: https://realiad4ad.github.io/Real-IAD"""

    name = "real-iad"
    title = "Real-IAD"
    beside = ("realiad_jsons", "realiad_jsons_sv")

    def holds(self, folder: Path, inside: Inside) -> bool:
        """Its good ones lie in a folder for each part."""
        return "ok" in inside and any(PART.fullmatch(part.name) for part in sub_folders(inside["ok"]))

    def train(self, category: Category) -> Selection:
        """Good ones of the list for training or, without a list, of four parts in five."""
        file = _list_of(category.folder)
        if file is not None:
            return only_good(category, _listed(category, file, "train"))
        train, kept = _good_parts(category.folder)
        said = f"{category.name} has no list of its split: {len(kept)} good parts, every fifth, and all others are "
        samples = samples_of(category, (photo for part in train for photo in part), "train")
        return Selection(samples, [f"{said}for the test."])

    def test(self, category: Category) -> Selection:
        """All of the list for the test or, without a list, the other good parts and all others."""
        file = _list_of(category.folder)
        if file is not None:
            return Selection(_listed(category, file, "test"), [])
        _, kept = _good_parts(category.folder)
        samples = samples_of(category, (photo for part in kept for photo in part), "test")
        bad, unseen = child(category.folder, "NG"), 0
        for kind in sub_folders(bad) if bad.is_dir() else []:
            files = contents(kind).photos
            masks = {file for file in files if file.suffix.lower() == ".png"}
            for photo in (file for file in files if file not in masks):
                own = {photo.with_suffix(".png"), photo.with_name(f"{photo.stem}_mask.png")} & masks
                unseen += not own
                known = {"anomalous": True, "defect": kind.name, "mask_path": next(iter(own), None)}
                samples += samples_of(category, [photo] if own else [], "test", **known)
        said = f"Left out of {bad}: {images(unseen)} without a mask, as of a view in which the defect is not seen."
        return Selection(samples, [said] if unseen else [])


def product_folders(root: Path) -> list[Path]:
    """Those of a root that has them in the folder of a size, beside the lists.

    Raises SIVTError where there are several sizes.
    """
    sizes = [folder for folder in sub_folders(root) if SIZES.fullmatch(folder.name)]
    if len(sizes) > 1:
        raise SIVTError(
            f"{root} holds the same photos in several sizes, {listing(folder.name for folder in sizes)}: name one, "
            f"--data.root {sizes[0]}."
        )
    return sub_folders(sizes[0]) if sizes else []


def _list_of(folder: Path) -> Path | None:
    """The list of a product's split, beside its folder or one higher."""
    places = (
        around / name / f"{folder.name}.json" for around in (folder.parent, folder.parent.parent) for name in LISTS
    )
    return next((file for file in places if file.is_file()), None)


def _listed(category: Category, file: Path, split: Split) -> list[Sample]:
    samples: list[Sample] = []
    missing: list[Path] = []
    for good, defect, photo, mask in _entries(category.folder, file, split):
        missing += [path for path in (photo, mask) if path is not None and not path.is_file()]
        known = {} if good else {"anomalous": True, "defect": defect, "mask_path": mask}
        samples += samples_of(category, [photo], split, **known)
    if missing:
        raise SIVTError(
            f"{file} names {len(missing)} files that are not there, such as {missing[0]}. Unpack the rest of "
            f"{category.name}."
        )
    return samples


def _entries(folder: Path, file: Path, split: Split) -> list[tuple[bool, str, Path, Path | None]]:
    """(whether it is good, kind of defect, photo, mask) as the list has them."""
    try:
        content = json.loads(file.read_bytes())
        normal = content["meta"]["normal_class"]
        return [_entry(folder, entry, normal) for entry in content[split]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SIVTError(
            f"{file} is no list of Real-IAD ({type(error).__name__}: {error}). Download it again."
        ) from error


def _entry(folder: Path, entry: dict[str, Any], normal: str) -> tuple[bool, str, Path, Path | None]:
    kind, mask = entry["anomaly_class"], entry["mask_path"]
    return kind == normal, kind, folder / entry["image_path"], folder / mask if mask else None


def _good_parts(folder: Path) -> tuple[list[list[Path]], list[list[Path]]]:
    """Views of each good part, (for training, for the test)."""
    parts = defaultdict(list)
    for photo in contents(child(folder, "OK")).photos:
        parts[photo.parent].append(photo)
    return parted(list(parts.values()))
