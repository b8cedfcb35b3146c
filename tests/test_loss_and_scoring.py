"""Eq. 2, Eq. 3 and the image score against plain NumPy in float64."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from sivt_lightning.errors import SIVTError
from sivt_lightning.model.distance import cosine_distance
from sivt_lightning.model.image_score import image_score
from sivt_lightning.model.loss import reconstruction_loss
from sivt_lightning.model.scoring import Scoring
from sivt_lightning.model.settings import ModelSettings


def pair(scale: float = 1.0, channels: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    features, noise = torch.randn(2, 2, channels, 8, 8, generator=generator).unbind()
    return scale * features, scale * (0.7 * features + 0.5 * noise)


def scoring(size: int = 64, sigma: float = 2.0, power: float = 1.0, **changes: Any) -> Scoring:
    """The paper's, but for what is said."""
    settings = {"parts": [7], "residual": "whole", "image_score": "deviation"} | changes
    return Scoring(feature_stride=size // 8, smoothing_sigma=sigma, map_power=power, **settings)


def reference_distances(f: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    f, g = f.astype(np.float64), g.astype(np.float64)
    cosine = (f * g).sum(1) / (np.sqrt((f * f).sum(1)) * np.sqrt((g * g).sum(1)))
    return ((f - g) ** 2).sum(1), 1 - cosine


def reference_upsample(maps: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, half-pixel centres, edges repeated."""
    side = maps.shape[-1]
    at = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
    low = np.minimum(at.astype(int), side - 2)
    weights = np.zeros((size, side))
    weights[np.arange(size), low] = 1 - (at - low)
    weights[np.arange(size), low + 1] = at - low
    return weights @ maps @ weights.T


def reference_smooth(maps: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian as a matrix, cut at 4 sigma, mirrored without repeating the border pixel."""
    size, radius = maps.shape[-1], math.ceil(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    matrix = np.zeros((size, size))
    for row in range(size):
        for offset, weight in zip(range(-radius, radius + 1), kernel, strict=True):
            column = abs(row + offset)
            matrix[row, column if column < size else 2 * size - 2 - column] += weight
    return matrix @ maps @ matrix.T


@pytest.mark.parametrize("cosine_weight", [0.0, 1.0, 5.0])
def test_loss(cosine_weight: float) -> None:
    features, reconstruction = pair()
    squared, cosine = reference_distances(features.numpy(), reconstruction.numpy())
    expected = (squared + cosine_weight * cosine).mean((1, 2))
    np.testing.assert_allclose(reconstruction_loss(features, reconstruction, cosine_weight), expected, rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_map_and_score(sigma: float, scale: float) -> None:
    features, reconstruction = pair(scale)
    squared, cosine = reference_distances(features.numpy(), reconstruction.numpy())
    expected = reference_upsample(squared * cosine, 64)
    expected = reference_smooth(expected, sigma) if sigma else expected
    paper = scoring(64, sigma)
    maps = paper.anomaly_map(features, reconstruction)
    np.testing.assert_allclose(maps, expected, rtol=2e-5, atol=1e-6 * expected.max())
    np.testing.assert_allclose(image_score(maps, "deviation"), expected.std(axis=(1, 2)), rtol=2e-5)


@pytest.mark.parametrize("power", [0.25, 2.0])
def test_neighbours_are_averaged_by_their_power_mean(power: float) -> None:
    features, reconstruction = pair()
    squared, cosine = reference_distances(features.numpy(), reconstruction.numpy())
    expected = reference_smooth(reference_upsample((squared * cosine) ** power, 64), 2.0) ** (1 / power)
    np.testing.assert_allclose(scoring(power=power).anomaly_map(features, reconstruction), expected, rtol=1e-4)


def test_of_neighbours_and_outputs_the_geometric_mean_in_which_the_deeper_counts_more() -> None:
    features, reconstruction = pair()
    logarithms = []
    for start, stop in ((0, 2), (2, 3), (3, 7)):
        # A cosine distance of a single channel is 0 or 2, and 0 counts as what rounding makes of it.
        squared, cosine = reference_distances(features[:, start:stop].numpy(), reconstruction[:, start:stop].numpy())
        logarithms.append(np.log(squared * np.maximum(cosine, np.finfo(np.float32).eps)))
    residual = (logarithms[0] + 2 * logarithms[1] + 3 * logarithms[2]) / 6
    expected = np.exp(reference_smooth(reference_upsample(residual, 64), 2.0))
    ours = scoring(power=0.0, parts=[2, 1, 4], residual="outputs")
    np.testing.assert_allclose(ours.anomaly_map(features, reconstruction), expected, rtol=1e-3)
    alone = scoring(power=0.0, residual="outputs").anomaly_map(features, reconstruction)
    np.testing.assert_allclose(scoring(power=0.0).anomaly_map(features, reconstruction), alone, rtol=1e-5)


def test_the_score_is_the_mean_of_the_highest_hundredth() -> None:
    maps = torch.zeros(2, 64, 64)
    maps[0, :4, :4], maps[1, :8, :4] = 1.0, 4.0  # one and two of 16 x 16 looked at, of which two are a hundredth
    assert image_score(maps, "highest").tolist() == [0.5, 4.0]
    assert image_score(maps[:1, :8, :8], "highest").tolist() == [1.0]  # at least one is looked at


@pytest.mark.parametrize("power", [-1.0, float("nan"), float("inf")])
def test_impossible_power(power: float) -> None:
    with pytest.raises(SIVTError, match="map_power"):
        ModelSettings(map_power=power)


def test_loss_and_map_are_float32_for_bfloat16_reconstructions() -> None:
    features, reconstruction = pair()
    coarse = reconstruction.bfloat16()
    assert reconstruction_loss(features, coarse, 5.0).dtype == torch.float32
    torch.testing.assert_close(
        scoring(16).anomaly_map(features, coarse), scoring(16).anomaly_map(features, coarse.float()), rtol=0, atol=0
    )


def test_a_perfect_reconstruction_scores_nothing() -> None:
    features, _ = pair()
    for how in (scoring(32), scoring(32, power=0.0, residual="outputs", parts=[3, 4], image_score="highest")):
        assert how(features, features).score.max() < 1e-9
    zeros = torch.zeros(1, 3, 4, 4)  # a vector without a direction is no NaN
    assert not cosine_distance(zeros, zeros).isnan().any()


@pytest.mark.parametrize(("sigma", "size"), [(-1.0, 64), (float("nan"), 64), (16.0, 64)])
def test_impossible_smoothing(sigma: float, size: int) -> None:
    with pytest.raises(SIVTError, match="smoothing_sigma"):
        ModelSettings(smoothing_sigma=sigma, image_size=size)


def test_widest_possible_smoothing_works() -> None:
    assert ModelSettings(smoothing_sigma=15.75, image_size=64).smoothing_sigma == 15.75
    scoring(64, 15.75).anomaly_map(*pair())
