"""The layout of MVTec AD, which MPDD and the prepared VisA share, and its relatives.

    CATEGORY/train/good, CATEGORY/validation/good
    CATEGORY/test/good, CATEGORY/test/DEFECT, CATEGORY/ground_truth/DEFECT

`good` may be called ok, normal or pass as well (see `names`), and may have sub-folders, as may DEFECT.
"""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from sivt_lightning.data.folders import below, child, contents, entries, images, images_in, sub_folders, walk
from sivt_lightning.data.layouts.doubts import checked, refuse_defects, refuse_masks
from sivt_lightning.data.layouts.layout import Category, Inside, Layout, samples_of, unused
from sivt_lightning.data.names import is_good, meaning
from sivt_lightning.data.samples import Sample, Selection, Split
from sivt_lightning.errors import SIVTError


class MVTec(Layout):
    """MVTec AD: https://www.mvtec.com/company/research/datasets/mvtec-ad"""

    name = "mvtec"
    title = "MVTec AD"
    tests: ClassVar[str] = "test"
    truth: ClassVar[str] = "ground_truth"  # as seen from the product's folder
    without_labels: ClassVar[tuple[str, ...]] = ()

    def holds(self, folder: Path, inside: Inside) -> bool:
        """It has one of the folders of photos."""
        return "train" in inside or "test" in inside

    def place(self, category: Category) -> Path:
        """The folder of good ones."""
        return child(category.folder, "train") / "good"

    def train(self, category: Category) -> Selection:
        """Those of train/good, and of validation/good to hold out."""
        samples, leftovers = [], self._outside(category)
        parts: tuple[Split, ...] = ("train", "validation")
        for part in parts:
            around = child(category.folder, part)
            if not around.is_dir():
                continue
            folders = self._good_folders(category, part)
            inside = [checked(contents(folder), folder, good=True) for folder in folders]
            samples += samples_of(category, (photo for of in inside for photo in of.photos), part)
            leftovers += [other for of in inside for other in of.others]
            leftovers += [entry for entry in entries(around) if entry not in folders]
        photos = [sample.path for sample in samples]
        refuse_masks(photos)
        refuse_defects(photos)
        return Selection(samples, unused(category, leftovers, "training"))

    def test(self, category: Category) -> Selection:
        """Each folder in that of tests is good, or a kind of defect."""
        test, truth = child(category.folder, self.tests), below(category.folder, *self.truth.split("/"))
        if not test.is_dir():
            return Selection([], [])
        samples, leftovers = [], self._outside(category)
        good_ones = self._good_folders(category, self.tests)
        for entry in entries(test):
            if entry == truth:
                continue
            inside = contents(entry) if entry.is_dir() else None
            if inside is None or not inside.photos:
                leftovers.append(entry)
                continue
            good = entry in good_ones
            leftovers += checked(inside, entry, good).others
            known = {} if good else {"anomalous": True, "defect": entry.name}
            samples += samples_of(category, inside.photos, "test", **known)
        refuse_masks([sample.path for sample in samples])
        refuse_defects([sample.path for sample in samples if not sample.anomalous])
        if truth.is_dir():
            samples = with_masks(samples, test, truth)
            used = {sample.mask_path for sample in samples}
            leftovers += [file for file in walk(truth) if not used & {file, file.parent}]
        return Selection(samples, [*unused(category, leftovers, "testing"), *self._said_of_unlabelled(category)])

    def unlabelled(self, category: Category) -> Selection:
        """All in the folders that have no labels."""
        folders = [child(category.folder, name) for name in self.without_labels]
        photos = [photo for folder in folders if folder.is_dir() for photo in contents(folder).photos]
        return Selection(samples_of(category, photos, "predict"), [])

    def _said_of_unlabelled(self, category: Category) -> list[str]:
        photos = [sample.path for sample in self.unlabelled(category).samples]
        if not photos:
            return []
        return [
            f"{images(len(photos))} of {category.name} have no labels, so they are not tested: sivt predict "
            f"--data.predict_path {' '.join(map(str, sorted({photo.parent for photo in photos})))} looks at them."
        ]

    def _outside(self, category: Category) -> list[Path]:
        names = ("train", "validation", self.tests, "ground_truth", *self.without_labels)
        known = {child(category.folder, name) for name in names}
        return [entry for entry in entries(category.folder) if entry not in known]

    def _good_folders(self, category: Category, part: str) -> list[Path]:
        """Those of a part whose photos, with those of their sub-folders, are all of good parts.

        Raises SIVTError where a name says good and something beside it, and is not the only one that says good: good
        parts seen from the front, or a defect of theirs.
        """
        # A training never looks into the folder of tests.
        parts = [folder for name in dict.fromkeys(("train", part)) if (folder := child(category.folder, name)).is_dir()]
        said = [inner for folder in parts for inner in sub_folders(folder) if meaning(inner.name).kind == "good"]
        here = [folder for folder in said if folder.parent.name.casefold() == part]
        for folder in here:
            unlike = [other for other in said if other.name.casefold() != folder.name.casefold()]
            if unlike and not is_good(folder.name) and contents(folder).photos:
                raise SIVTError(
                    f"The name of {folder} says good and something beside it ({meaning(folder.name).product}), and "
                    f"there is {unlike[0]}, so what its photos show stays unclear. If they show good parts, move it "
                    f"into a folder {folder.parent / 'good'}, which may have sub-folders; if not, name it after what "
                    "they show."
                )
        return [folder for folder in here if is_good(folder.name) or contents(folder).photos]


class Loco(MVTec):
    """MVTec LOCO AD: a mask is a folder of files, one for each defect of a photo.

    https://www.mvtec.com/company/research/datasets/mvtec-loco
    """

    name = "mvtec-loco"
    title = "MVTec LOCO AD"

    def holds(self, folder: Path, inside: Inside) -> bool:
        """Its tests have the data set's two kinds of defect, or one of them."""
        kinds = ("logical_anomalies", "structural_anomalies")
        return "test" in inside and any((inside["test"] / kind).is_dir() for kind in kinds)


class MVTecAD2(MVTec):
    """MVTec AD 2: https://www.mvtec.com/company/research/datasets/mvtec-ad-2"""

    name = "mvtec-ad-2"
    title = "MVTec AD 2"
    tests = "test_public"
    truth = "test_public/ground_truth"
    without_labels = ("test_private", "test_private_mixed")

    def holds(self, folder: Path, inside: Inside) -> bool:
        """It has one of the folders that are named after who may see their labels."""
        return any(name in inside for name in (self.tests, *self.without_labels))


class BTAD(MVTec):
    """beanTech Anomaly Detection: http://avires.dimi.uniud.it/papers/btad/btad.zip"""

    name = "btad"
    title = "BTAD"

    def holds(self, folder: Path, inside: Inside) -> bool:
        """Its good parts are ok and the others ko."""
        return (
            {"train", "test"} <= inside.keys()
            and (inside["train"] / "ok").is_dir()
            and (inside["test"] / "ko").is_dir()
        )


def with_masks(samples: list[Sample], test: Path, truth: Path) -> list[Sample]:
    """The samples with their masks: every anomalous one has its own, or the category has none at all."""
    places = {sample.path.parent.relative_to(test) for sample in samples}
    folders = {folder.relative_to(truth) for folder in sub_folders(truth)} | places  # with those of sub-folders
    masks: dict[tuple[Path, str], Path] = {}
    for folder in folders:
        if (truth / folder).is_dir():
            masks |= {(folder, mask.stem): mask for mask in images_in(truth / folder)}
            united = (inner for inner in sub_folders(truth / folder) if folder / inner.name not in places)
            masks |= {(folder, inner.name): inner for inner in united if images_in(inner)}
    return [_with_mask(sample, test, truth, masks) if sample.anomalous and masks else sample for sample in samples]


def _with_mask(sample: Sample, test: Path, truth: Path, masks: dict[tuple[Path, str], Path]) -> Sample:
    folder = sample.path.parent.relative_to(test)
    for stem in (f"{sample.path.stem}_mask", sample.path.stem):
        if (folder, stem) in masks:
            return replace(sample, mask_path=masks[folder, stem])
    raise SIVTError(
        f"{sample.path} has no mask: {truth / folder / sample.path.stem}_mask.png (or another image suffix) "
        f"does not exist, though category {sample.category!r} has masks. Add it, or remove the image."
    )
