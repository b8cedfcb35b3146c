"""The pictures for people: readable at any size, comparable over a run."""

import numpy as np
import pytest
from PIL import Image

from sivt_lightning.report.overlay import (
    ALARM,
    LONGEST,
    OUTLINE,
    ColourScale,
    Finding,
    fit,
    font,
    inferno,
    outlined,
    render_overlay,
    scale_of,
    shortened,
)

FINDING = Finding("bolt/a.png", 0.5, 0.2, True, 1.0)


def photo(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (128, 128, 128))


def render(anomaly_map: np.ndarray, finding: Finding = FINDING, size: tuple[int, int] = (400, 400)) -> np.ndarray:
    mask = anomaly_map > finding.pixel_threshold
    return np.asarray(render_overlay(photo(*size), anomaly_map, mask, finding, scale_of(finding.pixel_threshold)))


@pytest.mark.parametrize("size", [(3000, 2000), (400, 900), (1024, 1024), (60, 40), (1, 1), (5000, 10), (10, 5000)])
def test_a_picture_of_any_size_keeps_its_proportions_and_fits_a_screen(size: tuple[int, int]) -> None:
    width, height = fit(photo(*size)).size
    assert max(width, height) <= LONGEST
    assert abs(width / height - size[0] / size[1]) <= 1.5 * size[0] / size[1] / min(width, height)
    picture = render(np.eye(16, dtype=np.float32), size=size)
    assert picture.shape[0] < LONGEST + 150
    assert picture.shape[1] < 2 * LONGEST + 200


def test_a_value_has_one_colour_in_the_whole_run() -> None:
    faint, strong = np.full((2, 16, 16), 0.7, np.float32)
    strong[:8, :8] = 50
    difference = (render(faint) != render(strong)).any(axis=2)
    half = difference.shape[1] // 2
    assert difference[:, half:].any()
    assert np.array_equal(render(faint)[-150:-20, half:], render(strong)[-150:-20, half:]), (
        "lower half of the map panel"
    )


def test_values_above_the_scale_saturate() -> None:
    ten, hundred = np.full((2, 8, 8), 10, np.float32)
    hundred[:] = 100
    assert np.array_equal(render(ten), render(hundred))
    assert scale_of(2.0) == ColourScale(0.0, 6.0)
    assert scale_of(0.0).vmax > 0


def test_the_map_is_stretched_to_the_photo() -> None:
    hot = np.zeros((64, 64), np.float32)
    hot[:32, 32:] = 3  # upper right
    panel = render(hot, size=(500, 200))[-16 - 200 : -16]
    map_panel = panel[:, 16 + 500 + 12 :][:, :500].astype(int)
    assert map_panel[50, 375].sum() > 2 * map_panel[150, 375].sum()
    assert map_panel[50, 375].sum() > 2 * map_panel[50, 150].sum()


def test_the_outline_surrounds_what_is_masked_and_nothing_else() -> None:
    mask = np.zeros((32, 32), bool)
    mask[8:16, 8:16] = True
    drawn = (np.asarray(outlined(photo(320, 320), mask)) == OUTLINE).all(axis=2)
    rows, columns = np.nonzero(drawn)
    assert 70 < rows.min() < 80 <= 160 <= rows.max() < 170
    assert 70 < columns.min() < 80 <= 160 <= columns.max() < 170
    assert not drawn[90:150, 90:150].any(), "the finding itself stays visible"
    assert not (np.asarray(outlined(photo(320, 320), ~mask & mask)) == OUTLINE).all(axis=2).any()


def test_the_verdict_is_told_by_more_than_a_colour() -> None:
    still = np.zeros((8, 8), np.float32)
    anomalous, normal = render(still), render(still, FINDING._replace(anomalous=False))
    header = slice(0, 60)
    assert (anomalous[header] == ALARM).all(axis=2).any()
    assert not (normal[header] == ALARM).all(axis=2).any()
    assert ((anomalous[header] < 128).all(axis=2) != (normal[header] < 128).all(axis=2)).any(), (
        "other words, in grey too"
    )


def test_the_colour_map_grows_lighter_throughout() -> None:
    colours = inferno(np.linspace(0, 1, 200))
    assert (np.diff(colours @ [0.2126, 0.7152, 0.0722]) > 0).all()


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "ネジ/傷.png", "b\udcff.png", "a\nb.png", "", "Größe é.png"])
def test_every_file_name_can_be_drawn(name: str) -> None:
    render(np.zeros((8, 8), np.float32), FINDING._replace(name=name))


def test_a_long_name_loses_its_middle() -> None:
    text = shortened("line_3/" + "long_" * 40 + "017.png", 300.0, 20)
    assert text.startswith("line_3/")
    assert "..." in text
    assert text.endswith("017.png")
    assert font(20).getlength(text) <= 300
    assert shortened("short.png", 300.0, 20) == "short.png"
