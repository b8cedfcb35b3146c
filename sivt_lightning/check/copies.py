"""Photos that are there twice: the same file, or nearly the same picture."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sivt_lightning.check.finding import Finding, Kind
from sivt_lightning.check.looks import Look
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import listing

# Two pictures are nearly the same where their distance is this share of what it usually is from the tenth neighbour of
# a photo of their product, or a nearer one of few photos. Of ten real products copies saved anew as JPEG, at half the
# size or lighter lie below it (but of one noisy paper, and of bottles made lighter), and what else lies below it shows
# the same part once more.
NEAR, NEIGHBOUR = 0.2, 10
CHUNK = 512  # photos compared with all others at a time
FLAT = 1e-3  # deviation of grey levels below which a picture shows nothing


def same_files(samples: Sequence[Sample], looks: Mapping[Path, Look]) -> list[Finding]:
    """A finding for each file that is there more than once."""
    alike = defaultdict[bytes, list[Sample]](list)
    for sample in samples:
        alike[looks[sample.path].digest].append(sample)
    return [_same_file(of) for of in alike.values() if len(of) > 1]


def same_pictures(category: str, samples: Sequence[Sample], looks: Mapping[Path, Look]) -> list[Finding]:
    """A finding for each picture that there are several of, though in different files; those that are in training
    and test first."""
    once = list({looks[sample.path].digest: sample for sample in samples}.values())
    groups = _groups(np.stack([looks[sample.path].thumbnail for sample in once])) if once else []
    found = [[once[i] for i in group] for group in groups]
    return [_same_picture(category, of) for of in sorted(found, key=lambda of: not _mixed(of))]


def _same_file(of: Sequence[Sample]) -> Finding:
    names = listing(str(sample.path) for sample in of)
    products = sorted({sample.category for sample in of})
    kind: Kind = "same file"
    if len(products) > 1:
        why = f"so it counts as {listing(products)}"
    elif len({sample.anomalous for sample in of}) > 1:
        why = "so it counts as good and as a defect"
    elif _mixed(of):
        why = "so the test would measure what was learned by heart"
    else:
        kind, why = "same picture", "so it counts several times"
    category = products[0] if len(products) == 1 else ""
    return Finding(
        kind, category, f"{names} are the same file, {why}: keep one of them.", [sample.path for sample in of]
    )


def _same_picture(category: str, of: Sequence[Sample]) -> Finding:
    names = listing(str(sample.path) for sample in of)
    mixed = "; in training and test, such a pair flatters the test" if _mixed(of) else ""
    sentence = f"{names} show nearly the same picture: a copy, or the same part once more{mixed}."
    return Finding("same picture", category, sentence, [sample.path for sample in of])


def _mixed(of: Sequence[Sample]) -> bool:
    return len({sample.split == "test" for sample in of}) > 1


def _groups(thumbnails: UInt8[np.ndarray, "photos 64 64"]) -> list[list[int]]:
    """Positions of photos that are nearly the same as one another, directly or over others."""
    count = len(thumbnails)
    if count <= 2:
        return []
    pictures, neighbour = _normalised(thumbnails), min(NEIGHBOUR, math.ceil(count / 10))
    usual = float(np.median(np.concatenate([np.sort(d)[:, neighbour] for _, d in _distances(pictures)])))
    near = np.concatenate([np.argwhere(d <= NEAR * usual) + np.array([start, 0]) for start, d in _distances(pictures)])
    graph = coo_array((np.ones(len(near), dtype=bool), (near[:, 0], near[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    groups = defaultdict[int, list[int]](list)
    for position, label in enumerate(labels):
        groups[int(label)].append(position)
    return [group for group in groups.values() if len(group) > 1]


def _normalised(thumbnails: UInt8[np.ndarray, "photos 64 64"]) -> Float[np.ndarray, "photos values"]:
    """Without their light: the mean taken off, divided by the deviation."""
    pixels = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    pixels -= pixels.mean(1, keepdims=True)
    return pixels / np.maximum(pixels.std(1, keepdims=True), FLAT)


def _distances(
    pictures: Float[np.ndarray, "photos values"],
) -> Iterator[tuple[int, Float[np.ndarray, "some photos"]]]:
    """(first of some photos, their distances from all, root of the mean square); a photo's own is 0."""
    squares = (pictures**2).mean(1)
    for start in range(0, len(pictures), CHUNK):
        some = pictures[start : start + CHUNK]
        products = some @ pictures.T / pictures.shape[1]
        yield start, np.sqrt(np.maximum(squares[start : start + CHUNK, None] + squares - 2 * products, 0))
