"""Pages of a report as tests make and use them."""

import re
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page

from sivt_lightning.prediction_files.pictures import save_whole
from sivt_lightning.report.overlay import levels
from sivt_lightning.report.page import Shown, address


def pictures(folder: Path, name: str) -> dict[str, str]:
    """A grey photo with a bright corner, which its map finds."""
    photo, heat, truth = (f"report/{kind}/{name}.{suffix}" for kind, suffix in
                          (("photos", "jpg"), ("heat", "png"), ("truth", "png")))  # fmt: skip
    anomaly_map = np.zeros((32, 32), np.float32)
    anomaly_map[:8, :8] = 3.0
    pixels = np.full((60, 80, 3), 128, np.uint8)
    save_whole(folder / photo, Image.fromarray(pixels))
    save_whole(folder / heat, Image.fromarray(levels(anomaly_map, 1.0)))
    save_whole(folder / truth, Image.fromarray((anomaly_map > 0).astype(np.uint8) * 255))
    return {"photo": address(photo), "heat": address(heat), "truth": address(truth)}


def image(folder: Path, name: str, score: float, **settings: object) -> Shown:
    files = pictures(folder, name.replace("/script", "script"))
    shown = {"threshold": 1.5, "share": 0.0625, "regions": [[0, 0, 20, 15, 300, 3.0]], "original": address(name)}
    return Shown(name, score, **(shown | files | {"truth": ""} | settings))  # type: ignore[arg-type]


def names(page: Page) -> list[str]:
    return page.locator(".card .name").all_text_contents()


def slide(page: Page, to: int) -> None:
    page.locator("#slider").evaluate(
        "(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input')) }", to
    )


def check_fits_and_is_legible(page: Page, width: int, scheme: str) -> None:
    """Nothing is wider than the screen, and ink stands out from paper of the scheme's kind."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper, ink = (
        [int(v) for v in re.findall(r"\d+", page.evaluate(f"getComputedStyle(document.body).{of}"))]
        for of in ("backgroundColor", "color")
    )
    assert (np.mean(paper) > np.mean(ink)) == (scheme == "light")
    assert abs(np.mean(paper) - np.mean(ink)) > 180
