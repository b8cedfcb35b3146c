"""Draws docs/demo.jpg and docs/report.png from what `make demo` leaves behind, and docs/tiles.jpg.

    make demo
    python docs/pictures.py runs/make-demo

    sivt demo-data runs/hard --difficulty hard
    python docs/pictures.py runs/hard [CHECKPOINT ...]

demo.jpg: of each product of the demo data a good photo and a defective one, each above its anomaly map; of either kind
that of middle score, neither the best nor the worst. report.png: the report of the gears, as Chromium shows it.
tiles.jpg: a circuit board with its tiles; or, with checkpoints, boards.jpg: a board with a fault, and the map of each.
"""

import io
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright

from sivt_lightning import Prediction, Predictor
from sivt_lightning.data.grid import TILE, Tiles
from sivt_lightning.report.overlay import blended, normalised, scale_of

HERE = Path(__file__).parent
SIDE, GAP = 150, 6
BOARD = 420  # the side of a whole board in tiles.jpg
FRAMES = ("#e69f00", "#56b4e9", "#f0e442", "#cc79a7")  # told apart under every colour blindness


def main(demo: Path) -> None:
    """Of all products."""
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


def draw_tiles(demo: Path) -> None:
    """A board with an open trace."""
    photo = Image.open(demo / "circuit/test/open/000.jpg").convert("RGB")
    framed(photo, middle_of(demo, "open")).save(HERE / "tiles.jpg", quality=82)


def middle_of(demo: Path, fault: str) -> tuple[float, float]:
    """Of the first fault of a kind: column and row."""
    mask = np.asarray(Image.open(demo / f"circuit/ground_truth/{fault}/000_mask.png"))
    y, x = (float(where.mean()) for where in np.nonzero(mask))
    return x, y


def ringed(board: Image.Image, defect: tuple[float, float], width: int) -> Image.Image:
    """A whole board with a ring around its defect, which is given in the pixels of a photo of this width."""
    x, y = (at * BOARD / width for at in defect)
    ImageDraw.Draw(board).ellipse([x - 11, y - 11, x + 11, y + 11], outline="white", width=2)
    return board


def draw_boards(demo: Path, checkpoints: list[Path]) -> None:
    """A board with a bridged trace, and what each model says of it."""
    fault = demo / "circuit/test/bridge/000.jpg"
    photo = Image.open(fault).convert("RGB")
    whole = photo.resize((BOARD, BOARD), Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", ((1 + len(checkpoints)) * (BOARD + GAP) - GAP, BOARD), "white")
    sheet.paste(ringed(whole, middle_of(demo, "bridge"), photo.width), (0, 0))
    for number, checkpoint in enumerate(checkpoints, start=1):
        found = Predictor(checkpoint)(fault)
        position = normalised(found.anomaly_map, scale_of(found.pixel_threshold))
        sheet.paste(blended(whole, position), (number * (BOARD + GAP), 0))
    sheet.save(HERE / "boards.jpg", quality=85)


def framed(photo: Image.Image, defect: tuple[float, float]) -> Image.Image:
    """A photo with the frames of its tiles and a ring around its defect, beside the tiles."""
    grid = Tiles("auto").grid(photo.size, 256)
    whole = photo.resize((BOARD, BOARD), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(whole)
    tiles = Image.new("RGB", (BOARD, BOARD), "white")
    side = (BOARD - GAP) // 2
    for number, colour in enumerate(FRAMES):
        row, column = divmod(number, 2)
        one = BOARD / (grid.lefts[-1] + TILE)
        box = [one * start for start in (grid.lefts[column], grid.tops[row])]
        draw.rectangle([*(at + 2 for at in box), *(at + one * TILE - 3 for at in box)], outline=colour, width=3)
        piece = grid.piece(photo, number).resize((side, side), Image.Resampling.LANCZOS)
        ImageDraw.Draw(piece).rectangle([0, 0, side - 1, side - 1], outline=colour, width=3)
        tiles.paste(piece, (column * (side + GAP), row * (side + GAP)))
    sheet = Image.new("RGB", (2 * BOARD + 2 * GAP, BOARD), "white")
    for at, picture in ((0, ringed(whole, defect, photo.width)), (BOARD + 2 * GAP, tiles)):
        sheet.paste(picture, (at, 0))
    return sheet


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
    given, *models = map(Path, sys.argv[1:])
    if models:
        draw_boards(given, models)
    else:
        (draw_tiles if (given / "circuit").is_dir() else main)(given)
