"""The layout of MVTec 3D-AD, of whose photos and clouds of points the photos are read.

CATEGORY/train/good/rgb/000.png, CATEGORY/validation/good/rgb, CATEGORY/test/DEFECT/rgb, CATEGORY/test/DEFECT/gt
"""

from pathlib import Path

from sivt_lightning.data.folders import below, child, contents, sub_folders
from sivt_lightning.data.layouts.doubts import refuse_defects
from sivt_lightning.data.layouts.layout import Category, Inside, Layout, samples_of
from sivt_lightning.data.names import is_good
from sivt_lightning.data.samples import Sample, Selection, Split
from sivt_lightning.errors import SIVTError


class MVTec3D(Layout):
    """MVTec 3D-AD: https://www.mvtec.com/company/research/datasets/mvtec-3d-ad"""

    name = "mvtec-3d"
    title = "MVTec 3D-AD"

    def holds(self, folder: Path, inside: Inside) -> bool:
        """Photos lie apart from what else was measured."""
        return any((inside[part] / "good/rgb").is_dir() for part in ("train", "validation", "test") if part in inside)

    def place(self, category: Category) -> Path:
        """The folder of good ones."""
        return category.folder / "train/good/rgb"

    def train(self, category: Category) -> Selection:
        """Those of train/good, and of validation/good to hold out."""
        parts: tuple[Split, ...] = ("train", "validation")
        samples: list[Sample] = []
        for part in parts:
            samples += samples_of(category, _photos(below(category.folder, part, "good", "rgb")), part)
        refuse_defects([sample.path for sample in samples])
        return Selection(samples, [])

    def test(self, category: Category) -> Selection:
        """Every kind of defect has masks beside its photos; those of good parts are empty, so they are not read."""
        samples: list[Sample] = []
        test = child(category.folder, "test")
        for kind in sub_folders(test) if test.is_dir() else []:
            photos = _photos(child(kind, "rgb"))
            if is_good(kind.name):
                samples += samples_of(category, photos, "test")
                continue
            masks = {mask.stem: mask for mask in _photos(child(kind, "gt"))}
            for photo in photos:
                if masks and photo.stem not in masks:
                    raise SIVTError(f"{photo} has no mask: there is none of its name in {kind / 'gt'}. Add it.")
                known = {"anomalous": True, "defect": kind.name, "mask_path": masks.get(photo.stem)}
                samples += samples_of(category, [photo], "test", **known)
        return Selection(samples, [])


def _photos(folder: Path) -> list[Path]:
    return contents(folder).photos if folder.is_dir() else []
