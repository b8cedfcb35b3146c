"""Good photos that look like none of their product: likely defects among them, or photos of something else."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sivt_lightning.check.finding import Finding
from sivt_lightning.check.network import Network
from sivt_lightning.data.depth import Depth
from sivt_lightning.data.samples import Sample
from sivt_lightning.model.standardize import Standardize
from sivt_lightning.seeding import generator_for

MEASURED = 256  # photos that channels are scaled by
AXES = 64  # dimensions in which neighbours are looked for
# Vectors of a photo, among which those of others are looked for, and of a product. Of all of its vectors a defect's are
# nearer to those of another defect; so few are seldom a defect's.
VECTORS, MOST = 64, 32768
HIGHEST = 0.01  # share of a photo's positions whose mean is what is unlike in it
# Robust deviations of its logarithm over a product, above which a photo is named (Iglewicz and Hoaglin, 1993).
LIMIT = 3.5


class Unlike(NamedTuple):
    """How unlike all others of its product a photo is.

    Args:
        beyond: how many robust deviations above the usual.
        map: distance of each position from the nearest of another photo.
    """

    sample: Sample
    beyond: float
    map: Float[np.ndarray, "H W"]


def unlike_photos(network: Network, samples: Sequence[Sample], depth: Depth | None) -> list[Unlike]:
    """Photos of one product, that unlike all others first.

    As PatchCore (Roth et al., 2022) tells a photo from a training that it was not in: each is held against vectors of
    all photos but itself.
    """
    if len(samples) < 3:
        return []
    places = _along_axes(network, samples, depth)
    maps = _unlikeness(places)
    height = places.shape[1]
    smooth = avg_pool2d(maps[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    highest = smooth.flatten(1).topk(max(1, round(HIGHEST * height * height))).values.mean(1).clamp(min=1e-12).log()
    middle = highest.median()
    deviation = 1.4826 * (highest - middle).abs().median().clamp(min=1e-6)
    beyond = ((highest - middle) / deviation).tolist()
    order = sorted(range(len(samples)), key=lambda i: -beyond[i])
    return [Unlike(samples[i], beyond[i], smooth[i].numpy()) for i in order]


def finding_of(photo: Unlike) -> Finding:
    """What is said of a photo beyond LIMIT."""
    sentence = (
        f"{photo.sample.path} looks like none of the others of {photo.sample.category}: see whether it is good, and of "
        "this product."
    )
    return Finding("unlike its product", photo.sample.category, sentence, [photo.sample.path])


def _along_axes(network: Network, samples: Sequence[Sample], depth: Depth | None) -> Float[Tensor, "photos H W A"]:
    """Standardised features along the directions in which they differ most, in half precision."""
    order = torch.randperm(len(samples), generator=generator_for(0, len(samples)))
    drawn = [samples[i] for i in order.tolist()]
    first = list(network.features(drawn[:MEASURED], depth))
    standardize = Standardize(network.backbone.channels, network.settings.standardize)
    standardize.measure(first)
    vectors = torch.cat([rearrange(standardize(some), "b c h w -> (b h w) c") for some in first])
    axes = torch.linalg.eigh((vectors.T @ vectors / len(vectors)).double()).eigenvectors.flip(1)[:, :AXES].float()
    every = chain(first, network.features(drawn[MEASURED:], depth))
    places = torch.cat([(rearrange(standardize(some), "b c h w -> b h w c") @ axes).half() for some in every])
    return places[order.argsort()]


def _unlikeness(places: Float[Tensor, "photos H W A"]) -> Float[Tensor, "photos H W"]:
    """Distance of each position from the nearest vector of another photo."""
    photos, height, width, _ = places.shape
    positions, each = height * width, max(1, min(height * width, VECTORS, MOST // photos))
    flat = rearrange(places, "n h w a -> n (h w) a")
    drawn = torch.stack([torch.randperm(positions, generator=generator_for(1, i))[:each] for i in range(photos)])
    bank = torch.cat([flat[i, chosen].float() for i, chosen in enumerate(drawn)])
    squares = bank.square().sum(1)
    maps = []
    for i, vectors in enumerate(flat):
        distances = torch.addmm(squares, vectors.float(), bank.T, alpha=-2)
        distances[:, i * each : (i + 1) * each] = torch.inf
        maps.append((distances.amin(1) + vectors.float().square().sum(1)).clamp(min=0).sqrt())
    return rearrange(torch.stack(maps), "n (h w) -> n h w", h=height)
