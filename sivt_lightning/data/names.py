"""What the names of folders and files say: good parts, defects, masks, or a product."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["good", "defects", "masks", "labels", "split", ""]

FAULT = "(?:def|defects?|defective|faults?|faulty|anomal(?:y|ies|ous)|damaged?|cracks?|scratch(?:es)?)"
# In the order in which they are looked for: "not ok" holds "ok", and masks of defects are masks.
KINDS: tuple[tuple[Kind, str], ...] = (
    ("good", f"{FAULT} ?free|(?:non?|without) ?{FAULT}|fehlerfrei"),
    ("masks", "masks?|gt|ground ?truths?|segmentations?|annotations?"),
    ("defects", f"{FAULT}|(?:not?|non|n) ?(?:good|ok|okay|normal|pass)|n ?i ?o|bad|ng|ko|fail(?:ed|ures?)?"),
    ("defects", "reject(?:s|ed)?|abnormals?|broken|cracked|scratched|dent(?:s|ed)?|flaw(?:s|ed)?"),
    ("defects", "schlecht|schlechtteile?|fehler|fehlerhaft|ausschuss|defekte?|不良品?|不合格|异常|異常|缺陷"),
    ("good", "goods?|ok|okay|normals?|pass(?:ed)?|gut|gutteile?|i ?o|良品|正常|合格"),
    ("labels", "labels?"),  # masks, or products that are stuck on others
    ("split", "train|training|test|testing|val|valid|validation"),
)
PATTERNS = tuple((kind, re.compile(rf"(?<!\S)(?:{words})(?!\S)")) for kind, words in KINDS)
# Words that tell no product from another.
FILLING = {"dir", "folder", "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pic", "pics"}
FILLING |= {"data", "sample", "samples", "part", "parts", "piece", "pieces", "product", "products", "set", "raw"}
# Pairs of which either may be the good one: "positive" is a part that passes, or a crack that is there.
PAIRS = (
    "positive negative, positives negatives, clean dirty, healthy sick, inlier outlier, inliers outliers, bueno malo"
)
PAIRS += ", buena mala, buenos malos, buenas malas, bon mauvais, bons mauvais, bonne mauvaise, bonnes mauvaises"
OPPOSITES = dict(pair.split() for pair in PAIRS.split(", "))
NEGATIONS = ("un", "in", "im", "ir", "non", "not", "dis", "mal", "mis")  # imperfect, nonconform
SHORTEST_NEGATED = 5  # letters: side and inside are no opposites
MASK_WORDS = r"(?:masks?|labels?|gt|ground[ _-]?truth|seg|segmentation|annotation)"
MASK_STEM = re.compile(rf"(.+?)[ _.-]+{MASK_WORDS}|{MASK_WORDS}[ _.-]+(.+)", re.IGNORECASE)


class Meaning(NamedTuple):
    """What a folder's name says of the photos in it."""

    kind: Kind
    product: str  # the words that are left: "" where the name speaks of nothing else


@lru_cache(4096)
def meaning(name: str) -> Meaning:
    """
    >>> [meaning(name).kind for name in ("Good", "0.normal", "n.i.O.", "abnormal_dir", "anomaly masks", "bolt")]
    ['good', 'good', 'defects', 'defects', 'masks', '']
    >>> meaning("boltNotOK images")
    Meaning(kind='defects', product='bolt')
    """
    text = " ".join(_words(name))
    kind: Kind = next((kind for kind, pattern in PATTERNS if pattern.search(text)), "")
    for of, pattern in PATTERNS:
        text = text if of == "labels" != kind else pattern.sub("", text)
    return Meaning(kind, " ".join(word for word in text.split() if word not in FILLING))


def is_good(name: str) -> bool:
    """Whether a folder of this name holds good parts, of whichever product."""
    return meaning(name) == ("good", "")


def is_only(name: str, *kinds: Kind) -> bool:
    """Whether a folder's name says one of these and nothing else: no product, nor a part of a data set.

    >>> is_only("NG", "defects"), is_only("bolt_ng", "defects"), is_only("test_bad", "defects")
    (True, False, False)
    """
    split = dict(PATTERNS)["split"]
    return meaning(name).kind in kinds and not meaning(name).product and not split.search(" ".join(_words(name)))


def no_product(names: Sequence[str], beside: Sequence[str], by_hand: bool) -> tuple[str, str] | None:
    """The first of `names` that is no product's, and the one beside it that shows it ("": its own is enough).

    Args:
        names: of folders of photos.
        beside: of all products' folders.
        by_hand: they were chosen one by one, so that one called `mask` is of masks for faces, say.

    >>> no_product(["bolt_ok", "bolt_ng"], ["bolt_ok", "bolt_ng"], by_hand=True)
    ('bolt_ng', 'bolt_ok')
    >>> no_product(["bolt", "label"], ["bolt", "label"], by_hand=False)
    >>> no_product(["ok_front", "burr_front"], ["ok_front", "burr_front"], by_hand=False)
    ('burr_front', 'ok_front')
    """
    for name in names:
        for other in beside:
            if other != name and _is_betrayed(name, other, by_hand):
                return name, other
        kind, product = meaning(name)
        if kind in ("defects", "masks", "split") and not (product or by_hand):
            return name, ""
    return None


def _is_betrayed(name: str, other: str, by_hand: bool) -> bool:
    """Whether the name of one beside it shows that a folder holds other things than a product's good parts."""
    (kind, product), (other_kind, other_product) = meaning(name), meaning(other)
    if kind == "good":
        return False
    if kind and other_kind == "good" and product == other_product:
        return True
    if by_hand:
        return False
    if not kind:
        shared = set(other_product.split())
        same_but_good = other_kind == "good" and bool(shared) and shared.issubset(product.split())
        return same_but_good or are_opposites(name, other)
    if kind != "labels" and (other_kind == "good" or (other_kind == "" and product == other_product != "")):
        return True
    return not product and FILLING.issuperset(_words(other, digits=True))


def are_opposites(name: str, other: str) -> bool:
    """Whether two names differ in one word that says the opposite.

    >>> are_opposites("Negative", "Positive"), are_opposites("bolts_clean", "bolts_unclean"), are_opposites("a", "b")
    (True, True, False)
    """
    one, two = _telling(name), _telling(other)
    return one in _opposites(two) or two in _opposites(one)


@lru_cache(4096)
def _telling(name: str) -> str:
    return " ".join(word for word in _words(name) if word not in FILLING)


@lru_cache(4096)
def _opposites(text: str) -> frozenset[str]:
    """The text with one of its words turned into its opposite, in each way."""
    words, texts = text.split(), set[str]()
    for place, word in enumerate(words):
        turned = [OPPOSITES[word]] if word in OPPOSITES else []
        turned += [no + word for no in NEGATIONS] if len(word) >= SHORTEST_NEGATED else []
        texts.update(" ".join([*words[:place], opposite, *words[place + 1 :]]) for opposite in turned)
    return frozenset(texts)


def defect_among(photos: Sequence[Path]) -> tuple[Path, Path] | None:
    """A file whose name says defect and one whose name says good, or two that are opposites, where there are such."""
    named: dict[str, Path] = {}  # the first of those that differ in numbers alone
    for photo in photos:
        parts = (part.strip("0123456789") for part in re.findall(r"[^\W_]+", photo.stem.casefold()))
        named.setdefault(" ".join(part for part in parts if part.isalpha()), photo)  # not within names made at random
    kinds = {meaning(text).kind: photo for text, photo in reversed(named.items())}
    if "defects" in kinds and "good" in kinds:
        return kinds["defects"], kinds["good"]
    return next(((named[o], photo) for text, photo in named.items() for o in _opposites(text) if o in named), None)


def mask_among(photos: Sequence[Path]) -> tuple[Path, Path] | None:
    """The first file that by its name is the mask of a photo among the others, and that photo.

    Where most files share folder and stem with another, one of each two is taken for a mask.
    """
    stems = {photo.stem.casefold(): photo for photo in photos}
    for photo in photos:
        named = MASK_STEM.fullmatch(photo.stem)
        if named and (of := stems.get((named[1] or named[2]).casefold())):
            return photo, of
    files: dict[tuple[Path, str], list[Path]] = {}
    for photo in photos:
        files.setdefault((photo.parent, photo.stem), []).append(photo)
    pairs = [named for named in files.values() if len(named) > 1]
    return (pairs[0][1], pairs[0][0]) if pairs and 2 * len(pairs) >= len(files) else None


def product_of(folder: Path) -> str:
    """The name of a product's folder, or of the one around it where that is called good.

    >>> product_of(Path("/photos/bolt/train/good")), product_of(Path("/photos/bolt"))
    ('bolt', 'bolt')
    """
    folder = folder.resolve()
    named = (part.name for part in (folder, *folder.parents) if not (is_good(part.name) or part.name == "train"))
    return next(named, "") or folder.name


def listed(text: str) -> list[str]:
    """The names in a list as people write it; YAML would take `01` for a number, and `010` for 8.

    >>> listed("[01, 'nut']"), listed("bolt")
    (['01', 'nut'], ['bolt'])
    """
    inside = re.fullmatch(r"\s*\[(.*)\]\s*", text)
    return [name.strip().strip("'\"") for name in inside[1].split(",") if name.strip()] if inside else [text]


def _words(name: str, digits: bool = False) -> list[str]:
    """In lower case, parted where signs, capitals or digits part them."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()
    return re.findall(r"[^\W\d_]+|\d+" if digits else r"[^\W\d_]+", name)
