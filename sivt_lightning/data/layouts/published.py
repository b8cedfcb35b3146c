"""How many photos published data sets have, so that a download that is cut off, or another selection, is noticed."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from sivt_lightning.data.layouts.layout import Category
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import listing

FEWEST = 3  # products of a set's names: one called screw may be anybody's

# Of each product: (for training, for the test), as the authors' papers and files have it.
COUNTS: dict[str, dict[str, tuple[int, int | None]]] = {
    "MVTec AD": {
        "bottle": (209, 83),
        "cable": (224, 150),
        "capsule": (219, 132),
        "carpet": (280, 117),
        "grid": (264, 78),
        "hazelnut": (391, 110),
        "leather": (245, 124),
        "metal_nut": (220, 115),
        "pill": (267, 167),
        "screw": (320, 160),
        "tile": (230, 117),
        "toothbrush": (60, 42),
        "transistor": (213, 100),
        "wood": (247, 79),
        "zipper": (240, 151),
    },
    "MPDD": {
        "bracket_black": (289, 79),
        "bracket_brown": (185, 77),
        "bracket_white": (110, 60),
        "connector": (128, 44),
        "metal_plate": (54, 97),
        "tubes": (122, 101),
    },
    "MVTec LOCO AD": {
        "breakfast_box": (351, 275),
        "juice_bottle": (335, 330),
        "pushpins": (372, 310),
        "screw_bag": (360, 341),
    },
    "MVTec 3D-AD": {
        "bagel": (244, None),
        "cable_gland": (223, None),
        "carrot": (286, None),
        "cookie": (210, None),
        "dowel": (288, None),
        "foam": (236, None),
        "peach": (361, None),
        "potato": (300, None),
        "rope": (298, None),
        "tire": (210, None),
    },
    "BTAD": {"01": (400, 70), "02": (399, 230), "03": (1000, 441)},
    "VisA": {
        "candle": (900, 200),
        "capsules": (542, 160),
        "cashew": (450, 150),
        "chewinggum": (453, 150),
        "fryum": (450, 150),
        "macaroni1": (900, 200),
        "macaroni2": (900, 200),
        "pcb1": (904, 200),
        "pcb2": (901, 200),
        "pcb3": (905, 201),
        "pcb4": (904, 201),
        "pipe_fryum": (450, 150),
    },
}
# Sets whose products have no layout of their own.
SHARED = {"MVTec AD": ("MVTec AD", "MPDD", "VisA")}


def other_counts(chosen: Sequence[Category], samples: Sequence[Sample], part: Literal["train", "test"]) -> list[str]:
    """A sentence where products of a published set have other numbers of photos than there."""
    found = Counter(sample.category for sample in samples if sample.split == part)
    sentences = []
    for title in {category.layout.title: None for category in chosen}:
        names = [category.name for category in chosen if category.layout.title == title]
        for known in SHARED.get(title, (title,)):
            counts = COUNTS.get(known, {})
            if len(names) < FEWEST or not counts.keys() >= set(names):
                continue
            published = {name: counts[name][part == "test"] for name in names}
            other = {name: count for name, count in published.items() if count not in (None, found[name])}
            if other:
                said = listing(f"{name} has {found[name]} ({count})" for name, count in other.items())
                purpose = "training" if part == "train" else "the test"
                sentences.append(f"Other numbers of photos for {purpose} than those of {known} (in brackets): {said}.")
    return sentences
