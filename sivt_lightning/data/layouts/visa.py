"""The layout of VisA as it is downloaded, whose split is a list beside the products.

CATEGORY/Data/Images/Normal, CATEGORY/Data/Images/Anomaly, CATEGORY/Data/Masks/Anomaly
split_csv/1cls.csv            object,split,label,image,mask
"""

from dataclasses import replace
from pathlib import Path

from sivt_lightning.data.layouts.layout import Category, Inside, Layout
from sivt_lightning.data.layouts.listed import photos_of
from sivt_lightning.data.lists import read_table
from sivt_lightning.data.samples import Sample, Selection, Split
from sivt_lightning.errors import SIVTError

SPLIT = Path("split_csv/1cls.csv")


class VisA(Layout):
    """VisA: https://github.com/amazon-science/spot-diff"""

    name = "visa"
    title = "VisA"
    beside = ("split_csv",)

    def holds(self, folder: Path, inside: Inside) -> bool:
        """It has the folders of the download."""
        return "data" in inside and (inside["data"] / "Images/Normal").is_dir()

    def place(self, category: Category) -> Path:
        """The split's."""
        return category.folder.parent / SPLIT

    def train(self, category: Category) -> Selection:
        """What the split has for training."""
        return Selection(self._samples(category, "train"), [])

    def test(self, category: Category) -> Selection:
        """What the split has for the test."""
        return Selection(self._samples(category, "test"), [])

    def _samples(self, category: Category, split: Split) -> list[Sample]:
        file = self.place(category)
        if not file.is_file():
            raise SIVTError(
                f"{category.folder} is laid out as VisA, but which of its photos are for training stands in {file}, "
                "which is not there: copy it from the download, or make a list of photos."
            )
        table = read_table(
            file, "its first line has to be object,split,label,image,mask.", ("path", "category", "split", "label")
        )
        table = table._replace(base=category.folder.parent)
        own = [row for row in table.rows if row.category == category.name and row.split == split]
        return [replace(photo.sample, layout=self.title) for photo in photos_of(table, own)]
