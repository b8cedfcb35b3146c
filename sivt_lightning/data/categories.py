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
from sivt_lightning.data.names import are_opposites, is_good, meaning, no_product, product_of
from sivt_lightning.errors import SIVTError, listing

# Of what kind something is that is no product.
LIKE = {"defects": "defects", "split": "a part of a data set", "": "the same part in another state"}
LIKE |= dict.fromkeys(("masks", "labels"), "masks")
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
        or (whole.layout == "good" and not (names and {category.name for category in inside}.issuperset(names)))
    ):
        _refuse_other_photos(whole)
        return _choose(root, [whole], names), []
    chosen = _choose(root, inside, names)
    for category in chosen:
        _refuse_other_photos(category)
    _refuse_no_products(root, chosen, by_hand)
    return chosen, [] if by_hand else _strays(root, inside)


def good_folders(category: Category, part: Literal["train", "test"] = "train") -> list[Path]:
    """Those whose photos, with those of their sub-folders, are all of good parts; not of a category of plain photos.

    Raises SIVTError where a name says good and something beside it, and is not the only one that says good: good parts
    seen from the front, or a defect of theirs.
    """
    if category.layout != "mvtec":
        return [inner for inner in sub_folders(category.folder) if is_good(inner.name)]
    # A training never looks into the folder of tests.
    parts = [folder for name in dict.fromkeys(("train", part)) if (folder := child(category.folder, name)).is_dir()]
    said = [inner for folder in parts for inner in sub_folders(folder) if meaning(inner.name).kind == "good"]
    here = [folder for folder in said if folder.parent.name.casefold() == part]
    for folder in here:
        unlike = [other for other in said if other.name.casefold() != folder.name.casefold()]
        if unlike and not is_good(folder.name) and contents(folder).photos:
            raise SIVTError(
                f"The name of {folder} says good and something beside it ({meaning(folder.name).product}), and there "
                f"is {unlike[0]}, so what its photos show stays unclear. If they show good parts, move it into a "
                f"folder {folder.parent / 'good'}, which may have sub-folders; if not, name it after what they show."
            )
    return [folder for folder in here if is_good(folder.name) or contents(folder).photos]


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
    names = [category.name for category in chosen]
    pair = no_product(plain, names, by_hand)
    if pair is None:
        return
    name, beside = pair
    like = LIKE[meaning(name).kind]
    rest = names
    while rest and (other := no_product([of for of in rest if of in plain], rest, by_hand)):
        # Of opposites either may be the good one.
        rest = [of for of in rest if of not in (other if are_opposites(*other) else other[:1])]
    choice = f"choose the products, {_option(rest)}, or " if rest else ""
    raise SIVTError(
        f"{root} holds the folder {name}{f' beside {beside}' if beside else ''}, which is named like {like}, and only "
        f"good parts are trained on: {choice}sort the photos as {AS_MVTEC}.{_all_by_hand(root, plain, names)}"
    )


def _all_by_hand(root: Path, plain: Sequence[str], names: Sequence[str]) -> str:
    """A sentence on how to train on all of them in spite of their names, where that may be right."""
    if no_product(plain, names, by_hand=True):
        return ""
    return f" If each of them holds good parts of a product, name them all: --data.root {root} {_option(names)}."


def _refuse_other_photos(category: Category) -> None:
    """Raises SIVTError where photos lie in a category that may show no good parts, beside those that do."""
    if category.layout == "mvtec":
        return
    good = [folder.name for folder in sub_folders(category.folder) if is_good(folder.name)]
    held = [folder.name for folder in sub_folders(category.folder) if _holds_photos(folder)]
    others = [name for name in held if category.layout == "photos" or name not in good]
    if others and category.layout == "good":
        plain = [name for name in held if images_in(category.folder / name)]
        hint = _all_by_hand(category.folder, plain, held) if plain == held else ""
        raise SIVTError(
            f"{category.folder} holds the folder {others[0]} beside {good[0]}: only good parts are trained on, and a "
            f"folder called {good[0]} is seldom a product, so the one beside it may be none. Name the good ones alone, "
            f"--data.root {category.folder / good[0]}, or sort the photos as {AS_MVTEC}.{hint}"
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
