"""Which categories a root holds, and how each of them is laid out.

What the names of folders leave unclear is an error: nothing but good parts is ever trained on.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from sivt_lightning.data.folders import ACCEPTED, counted, entries, images_in, is_roi, refuse_parts, sub_folders, there
from sivt_lightning.data.layouts.layout import Category, Layout
from sivt_lightning.data.layouts.mvtec import BTAD, Loco, MVTec, MVTecAD2
from sivt_lightning.data.layouts.mvtec_3d import MVTec3D
from sivt_lightning.data.layouts.plain import Good, GoodBad, Lots, Photos
from sivt_lightning.data.layouts.real_iad import RealIAD, product_folders
from sivt_lightning.data.layouts.supervised import DAGM, Kolektor, Kolektor2
from sivt_lightning.data.layouts.visa import VisA
from sivt_lightning.data.names import are_opposites, is_good, meaning, no_product, product_of
from sivt_lightning.errors import SIVTError, listing

# Of what kind something is that is no product.
LIKE = {"defects": "defects", "split": "a part of a data set", "": "the same part in another state"}
LIKE |= dict.fromkeys(("masks", "labels"), "masks")
AS_MVTEC = "PRODUCT/train/good, PRODUCT/test/good and PRODUCT/test/DEFECT (masks: PRODUCT/ground_truth/DEFECT)"


# Found by their own names for folders, so that no two of them hold one folder.
PUBLISHED: tuple[Layout, ...] = (
    Loco(),
    MVTecAD2(),
    MVTec3D(),
    BTAD(),
    VisA(),
    RealIAD(),
    Kolektor(),
    Kolektor2(),
    DAGM(),
)
# What none of these is: the first one that takes it.
GENERAL: tuple[Layout, ...] = (MVTec(), Photos(), GoodBad(), Good(), Lots())
LAYOUTS = {layout.name: layout for layout in (*PUBLISHED, *GENERAL)}


def find_categories(
    root: Path, names: Sequence[str] | None, layout: str | None = None
) -> tuple[list[Category], list[str]]:
    """The categories under `root`, or those of `names`, sorted by name; and a sentence on what else lies there.

    Args:
        layout: how they are laid out, one of `LAYOUTS`; None: each as its folder shows.

    Raises SIVTError where there are none, or it is unclear what they hold.
    """
    if not root.exists():
        raise SIVTError(f"{root} does not exist. Set data.root to the folder that holds the categories.")
    if not root.is_dir():
        raise SIVTError(f"{root} is a file. Set data.root to the folder that holds the categories.")
    refuse_parts(root, f"`sivt data list {root}` makes a list of those that people have marked.")
    asked = None if layout is None else LAYOUTS[layout]
    folders = [_unpacked(folder) for folder in sub_folders(root)] + product_folders(root)
    inside = [category for folder in folders if (category := _category(folder.name, folder, asked))]
    inside.sort(key=lambda category: category.name)
    if twice := next((one for one, other in pairwise(inside) if one.name == other.name), None):
        raise SIVTError(f"{root} holds two products called {twice.name}: rename the folder of one of them.")
    whole = _category(product_of(root), root, asked)
    by_hand = names is not None
    if whole is not None and (asked or _is_whole(whole, {category.name for category in inside}, names)):
        _refuse_other_photos(whole)
        return _choose(root, [whole], names, layout), []
    chosen = _choose(root, inside, names, layout)
    for category in chosen:
        _refuse_other_photos(category)
    if asked is None:
        _refuse_no_products(root, chosen, by_hand)
    return chosen, [] if by_hand else _strays(root, inside)


def _unpacked(folder: Path) -> Path:
    """The folder, or the one of its name that is all that an archive has left in it."""
    inner = folder / folder.name
    return inner if inner.is_dir() and sub_folders(folder) == [inner] else folder


def _is_whole(whole: Category, inside: Collection[str], names: Sequence[str] | None) -> bool:
    """Whether a root that could be a product is one, rather than the folder of those in it."""
    if isinstance(whole.layout, Photos):
        return not inside
    if isinstance(whole.layout, (Good, GoodBad)):
        return not (names and set(names).issubset(inside))
    return not isinstance(whole.layout, Lots)


def _category(name: str, folder: Path, asked: Layout | None) -> Category | None:
    """The folder as a category, where it looks like one. Raises SIVTError where it looks like two."""
    inside = {inner.name.casefold(): inner for inner in sub_folders(folder)}
    if asked is not None:
        return Category(name, folder, asked) if asked.holds(folder, inside) else None
    held = [layout for layout in PUBLISHED if layout.is_plain(folder, inside)]
    if len(held) > 1:
        raise SIVTError(
            f"{folder} could be laid out as {held[0].title} or as {held[1].title}: say which, with --data.layout "
            f"{held[0].name} or {held[1].name}, or give it folders of one of them only."
        )
    found = next((layout for layout in (*held, *GENERAL) if layout in held or layout.is_plain(folder, inside)), None)
    return Category(name, folder, found) if found else None


def _holds_photos(folder: Path) -> bool:
    """In itself or a sub-folder. Not further down: there lie the pictures in our own `runs` and `predictions`."""
    return _category("", folder, None) is not None or any(images_in(inner) for inner in sub_folders(folder))


def _choose(root: Path, known: Sequence[Category], names: Sequence[str] | None, layout: str | None) -> list[Category]:
    if not known and layout is not None:
        raise SIVTError(
            f"No category in {root} is laid out as {LAYOUTS[layout].title}. {there(root)} Set data.layout to null, or "
            "data.root to another folder."
        )
    if not known:
        listed = listing(entry.name for entry in entries(root)) or "nothing"
        raise SIVTError(
            f"No category found in {root}: looked for CATEGORY/train/good and for images ({ACCEPTED}) in it and its "
            f"sub-folders; there is {listed}. {there(root)} Set data.root to the folder that holds the categories."
            f"{_as_lots(sub_folders(root))}"
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
    plain = [category.name for category in chosen if isinstance(category.layout, Photos)]
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
    if not isinstance(category.layout, (Photos, Good)):
        return
    good = [folder.name for folder in sub_folders(category.folder) if is_good(folder.name)]
    held = [folder.name for folder in sub_folders(category.folder) if _holds_photos(folder)]
    others = [name for name in held if isinstance(category.layout, Photos) or name not in good]
    if others and isinstance(category.layout, Good):
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
    if photos and all(isinstance(category.layout, (Photos, Good, GoodBad, Lots)) for category in known):
        raise SIVTError(
            f"{root} holds photos ({listing(photo.name for photo in photos)}) beside folders of photos "
            f"({listing(names)}), so what a category is stays unclear. Move the photos into a folder of their own."
        )
    used = {folder for category in known for folder in (category.folder, *category.folder.parents)}
    beside = {name for category in known for name in category.layout.beside}
    folders = [folder for folder in sub_folders(root) if folder not in used and folder.name.casefold() not in beside]
    for folder in folders:
        if _holds_photos(folder):
            raise SIVTError(
                f"{folder} has photos in its sub-folders only, so what they show stays unclear. {there(folder)} "
                f"Move them up, or into {folder / 'train' / 'good'}, which may have sub-folders, or choose the others: "
                f"{_option(names)}.{_as_lots([folder])}"
            )
    strays = counted(root, [*photos, *(entry for entry in entries(root) if is_roi(entry)), *folders])
    return [f"In {root}, not part of any category: {strays}."] if strays else []


def _as_lots(folders: Sequence[Path]) -> str:
    """A sentence on how to take folders of photos in one of these for one product's, where there are such."""
    product = next((folder for folder in folders if any(images_in(inner) for inner in sub_folders(folder))), None)
    return f" If {product} is one product, say --data.root {product} --data.layout lots." if product else ""


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _option(names: Iterable[str]) -> str:
    return f"--data.categories '{json.dumps(list(names), ensure_ascii=False)}'"
