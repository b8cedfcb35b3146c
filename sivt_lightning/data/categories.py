"""Which categories a root holds, and in which folders their good parts lie.

What the names of folders leave unclear is an error: nothing but good parts is ever trained on.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sivt_lightning.data.folders import (
    ACCEPTED,
    child,
    contents,
    counted,
    entries,
    images_in,
    sub_folders,
    there,
)
from sivt_lightning.data.names import is_good, meaning, no_product, product_of
from sivt_lightning.errors import SIVTError, listing

AS_MVTEC = "PRODUCT/train/good, PRODUCT/test/good and PRODUCT/test/DEFECT (masks: PRODUCT/ground_truth/DEFECT)"


@dataclass(frozen=True)
class Category:
    """A product's folder."""

    name: str
    folder: Path
    layout: Literal["mvtec", "photos", "good"]  # has train or test; has photos in it; has a folder of good ones


def find_categories(root: Path, names: Sequence[str] | None) -> tuple[list[Category], list[str]]:
    """The categories under `root`, or those of `names`, sorted by name; and a sentence on what else lies there.

    Raises SIVTError where there are none, or it is unclear what they hold.
    """
    if not root.exists():
        raise SIVTError(f"{root} does not exist. Set data.root to the folder that holds the categories.")
    if not root.is_dir():
        raise SIVTError(f"{root} is a file. Set data.root to the folder that holds the categories.")
    inside = [category for folder in sub_folders(root) if (category := _category(folder.name, folder))]
    whole = _category(product_of(root), root)
    by_hand = names is not None
    if whole is not None and (
        whole.layout == "mvtec"
        or (whole.layout == "photos" and not inside)
        or (whole.layout == "good" and not (names and all(is_good(name) for name in names)))
    ):
        _refuse_other_photos(whole)
        return _choose(root, [whole], names), []
    chosen = _choose(root, inside, names)
    for category in chosen:
        _refuse_other_photos(category)
    _refuse_no_products(root, chosen, by_hand)
    return chosen, [] if by_hand else _strays(root, inside)


def good_folders(category: Category) -> list[Path]:
    """Those whose photos, with those of their sub-folders, are all of good parts; not of a category of plain photos."""
    folder = child(category.folder, "train") if category.layout == "mvtec" else category.folder
    return [inner for inner in sub_folders(folder) if says_good(inner)] if folder.is_dir() else []


def says_good(folder: Path) -> bool:
    """Whether a folder of a category is called good. Raises SIVTError where its name says something beside that."""
    kind, rest = meaning(folder.name)
    if kind == "good" and rest and contents(folder).photos:
        raise SIVTError(
            f"The name of {folder} says good and something beside it ({rest}), so what its photos show stays unclear. "
            "Call it good, or after the defect; good may have sub-folders."
        )
    return is_good(folder.name)


def _category(name: str, folder: Path) -> Category | None:
    """The folder as a category, where it looks like one."""
    if child(folder, "train").is_dir() or child(folder, "test").is_dir():
        return Category(name, folder, "mvtec")
    if images_in(folder):
        return Category(name, folder, "photos")
    good = any(contents(inner).photos for inner in sub_folders(folder) if is_good(inner.name))
    return Category(name, folder, "good") if good else None


def _holds_photos(folder: Path) -> bool:
    """In itself or a sub-folder. Not further down: there lie the pictures in our own `runs` and `predictions`."""
    return _category("", folder) is not None or any(images_in(inner) for inner in sub_folders(folder))


def _choose(root: Path, known: Sequence[Category], names: Sequence[str] | None) -> list[Category]:
    if not known:
        listed = listing(entry.name for entry in entries(root)) or "nothing"
        raise SIVTError(
            f"No category found in {root}: looked for CATEGORY/train/good and for images ({ACCEPTED}) in it and its "
            f"sub-folders; there is {listed}. {there(root)} Set data.root to the folder that holds the categories."
        )
    if broken := [category for category in known if not _is_text(category.name)]:
        raise SIVTError(f"The name of the folder {broken[0].folder} is no UTF-8, which tables need: rename it.")
    if names is None:
        return list(known)
    present = [category.name for category in known]
    missing = sorted(set(names) - set(present))
    if missing or not names:
        fault = f"{root} has no category {listing(missing)}." if missing else "data.categories is an empty list."
        raise SIVTError(
            f"{fault} Set data.categories to some of {listing(present, limit=50)}, or to null for all; "
            f"as an option: {_option(present[:2])}."
        )
    return [category for category in known if category.name in names]


def _refuse_no_products(root: Path, chosen: Sequence[Category], by_hand: bool) -> None:
    """Raises SIVTError where the name of one says that it holds other things than good parts of a product."""
    plain = [category.name for category in chosen if category.layout == "photos"]
    pair = no_product(plain, [category.name for category in chosen], by_hand)
    if pair is None:
        return
    name, beside = pair
    like = {"defects": "defects", "split": "a part of a data set"}.get(meaning(name).kind, "masks")
    others = [category.name for category in chosen if category.name != name]
    rest = [other for other in others if meaning(other).kind in ("", "good", "labels")]
    choice = f"choose the products, {_option(rest)}, or " if rest else ""
    raise SIVTError(
        f"{root} holds the folder {name}{f' beside {beside}' if beside else ''}, which is named like {like}, and only "
        f"good parts are trained on: {choice}sort the photos as {AS_MVTEC}."
    )


def _refuse_other_photos(category: Category) -> None:
    """Raises SIVTError where photos lie in a category that may show no good parts, beside those that do."""
    if category.layout == "mvtec":
        return
    good = [folder.name for folder in sub_folders(category.folder) if is_good(folder.name)]
    held = [folder.name for folder in sub_folders(category.folder) if _holds_photos(folder)]
    others = [name for name in held if category.layout == "photos" or name not in good]
    if others and category.layout == "good":
        raise SIVTError(
            f"{category.folder} holds the folder {others[0]} beside {good[0]}: only good parts are trained on, and a "
            f"folder called {good[0]} is no product, so the one beside it is none either. Name the good ones alone, "
            f"--data.root {category.folder / good[0]}, or sort the photos as {AS_MVTEC}."
        )
    if others:
        photos = listing(photo.name for photo in images_in(category.folder))
        raise SIVTError(
            f"{category.folder} holds photos ({photos}) beside folders of photos ({listing(others)}), so whether those "
            f"show good parts stays unclear. Move them elsewhere, or sort the photos as {AS_MVTEC}; these may have "
            "sub-folders."
        )


def _strays(root: Path, known: Sequence[Category]) -> list[str]:
    """What lies beside the categories. Raises SIVTError where it may be photos to train on."""
    photos = images_in(root)
    names = [category.name for category in known]
    if photos and not any(category.layout == "mvtec" for category in known):
        raise SIVTError(
            f"{root} holds photos ({listing(photo.name for photo in photos)}) beside folders of photos "
            f"({listing(names)}), so what a category is stays unclear. Move the photos into a folder of their own."
        )
    folders = [folder for folder in sub_folders(root) if folder.name not in names]
    for folder in folders:
        if _holds_photos(folder):
            raise SIVTError(
                f"{folder} has photos in its sub-folders only, so what they show stays unclear. {there(folder)} "
                f"Move them up, or into {folder / 'train' / 'good'}, which may have sub-folders, or choose the others: "
                f"{_option(names)}."
            )
    strays = counted(root, [*photos, *folders])
    return [f"In {root}, not part of any category: {strays}."] if strays else []


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _option(names: Iterable[str]) -> str:
    return f"--data.categories '{json.dumps(list(names), ensure_ascii=False)}'"
