"""Draws docs/demo.jpg and docs/report.png from what `make demo` leaves behind.

    make demo
    python docs/pictures.py runs/make-demo

demo.jpg: of each product of the demo data a good photo and a defective one, each above its anomaly map; of either kind
that of middle score, neither the best nor the worst. report.png: the report of the gears, as Chromium shows it.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from sivt_lightning import Prediction, Predictor
from sivt_lightning.report.overlay import blended, normalised, scale_of

HERE = Path(__file__).parent
SIDE, GAP = 150, 6


def main(demo: Path) -> None:
    """Both."""
    draw_products(demo).save(HERE / "demo.jpg", quality=88)
    first = Image.open(io.BytesIO(photograph(demo / "predictions" / "report.html")))
    first.convert("RGB").quantize(256).save(HERE / "report.png", optimize=True)


def draw_products(demo: Path) -> Image.Image:
    """A column for each product."""
    products = sorted(path.name for path in (demo / "data").iterdir() if path.is_dir())
    sheet = Image.new("RGB", (len(products) * (SIDE + GAP) - GAP, 4 * (SIDE + GAP) - GAP), "white")
    for column, product in enumerate(products):
        predictor = Predictor(demo / "version_0/checkpoints/best.ckpt", category=product)
        test = demo / "data" / product / "test"
        good = sorted(path for path in test.glob("good/*.png"))
        bad = sorted(path for path in test.glob("*/*.png") if path.parent.name != "good")
        pictures = [one for paths in (good, bad) for one in middle(predictor, paths)]
        for row, picture in enumerate(pictures):
            sheet.paste(picture, (column * (SIDE + GAP), row * (SIDE + GAP)))
    return sheet


def middle(predictor: Predictor, paths: list[Path]) -> list[Image.Image]:
    """The photo of middle score, and its map."""
    predictions: list[tuple[float, Path, Prediction]] = []
    for path in paths:
        prediction = predictor(path)
        predictions.append((prediction.score, path, prediction))
    _, path, prediction = sorted(predictions, key=lambda one: one[0])[len(predictions) // 2]
    photo = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    position = normalised(prediction.anomaly_map, scale_of(prediction.pixel_threshold))
    return [photo, blended(photo, position)]


def photograph(page: Path) -> bytes:
    """A page's first screen, as PNG."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        screen = browser.new_page(viewport={"width": 1120, "height": 760})
        screen.goto(page.resolve().as_uri())
        screen.wait_for_load_state("networkidle")
        picture = screen.screenshot()
        browser.close()
    return picture


if __name__ == "__main__":
    main(Path(sys.argv[1]))
