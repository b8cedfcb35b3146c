"""report.html in a real browser: what a person can do with it, and that a name stays a name."""

import csv
from pathlib import Path

import numpy as np
import pytest
from pages import check_fits_and_is_legible, image, names, pictures, slide
from PIL import Image
from playwright.sync_api import Page, expect

from sivt_lightning.files import read_csv, write_whole
from sivt_lightning.report.page import Shown, address, html_table, report_page

HOSTILE = "<img src=x onerror=alert(1)>.png"
NAMES = [HOSTILE, "line 1/ネジ.png", "line 1/a.png", "line 2/deep/b#1?.png", "</script><script>alert(2)</script>.png"]
SCORES = (4.0, 3.0, 2.0, 1.0, 0.5)
PLENTY = 230


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predicted")
    images = [image(folder, name, score) for name, score in zip(NAMES, SCORES, strict=True)]
    images.append(Shown("bad.png", None, 1.5, error="bad.png cannot be read: the file is empty."))
    (folder / "report.html").write_text(report_page(f"Predictions: {HOSTILE}", "What was found.", images))
    return folder / "report.html"


def test_the_worst_image_comes_first_and_every_name_is_text(page: Page, predicted: Path) -> None:
    page.goto(predicted.as_uri())
    assert names(page) == [*NAMES, "bad.png"]
    expect(page.locator("h1")).to_have_text(f"Predictions: {HOSTILE}")
    expect(page.locator("#counts")).to_have_text("6 images: 3 anomalous, 2 normal, 1 without a result.")
    assert page.locator(".card .badge").all_text_contents() == ["anomalous"] * 3 + ["normal"] * 2 + ["no result"]
    expect(page.locator(".card").last).to_contain_text("bad.png cannot be read: the file is empty.")
    loaded = "images => images.every(image => image.complete && image.naturalWidth > 0)"
    assert page.locator(".card img").evaluate_all(loaded)


def test_the_slider_relabels(page: Page, predicted: Path) -> None:
    page.goto(predicted.as_uri())
    slide(page, 1000)
    expect(page.locator("#counts")).to_contain_text("0 anomalous, 5 normal")
    slide(page, 0)
    expect(page.locator("#counts")).to_contain_text("5 anomalous, 0 normal")
    assert page.locator("#histogram rect.calm").count() == 0
    page.locator("#exact").fill("2.5")
    expect(page.locator("#counts")).to_contain_text("2 anomalous, 3 normal")
    assert page.locator(".card .badge").all_text_contents()[2] == "normal"
    page.locator("#exact").fill("2")  # an image at the threshold is not above it
    expect(page.locator("#counts")).to_contain_text("2 anomalous, 3 normal")
    page.get_by_role("button", name="Back to 1.5").click()
    expect(page.locator("#counts")).to_contain_text("3 anomalous, 2 normal")
    page.locator("#slider").press("ArrowLeft")  # by the keyboard, too
    expect(page.locator("#exact")).not_to_have_value("1.5")


def test_filters_search_and_order(page: Page, predicted: Path) -> None:
    page.goto(predicted.as_uri())
    folders = page.locator("#folder option").all_text_contents()
    assert folders == ["all folders", "</", "</script><script>alert(2)</", "line 1/", "line 2/", "line 2/deep/"]
    page.locator("#verdict").select_option("anomalous")
    assert names(page) == NAMES[:3]
    page.locator("#folder").select_option("line 1/")
    assert names(page) == NAMES[1:3]
    page.locator("#search").fill("A.PNG")
    assert names(page) == ["line 1/a.png"]
    expect(page.locator("#listed")).to_have_text("1 of 6 listed")
    page.locator("#search").fill("")
    page.locator("#folder").select_option("")
    page.locator("#verdict").select_option("failed")
    assert names(page) == ["bad.png"]
    page.locator("#verdict").select_option("all")
    page.locator("#order").select_option("low")
    assert names(page) == [*NAMES[::-1], "bad.png"]
    page.locator("#order").select_option("name")
    assert names(page) == sorted([*NAMES, "bad.png"])


def test_the_list_as_csv(page: Page, predicted: Path, tmp_path: Path) -> None:
    page.goto(predicted.as_uri())
    page.locator("#exact").fill("2.5")
    page.locator("#verdict").select_option("anomalous")
    with page.expect_download() as download:
        page.locator("#export").click()
    download.value.save_as(tmp_path / "list.csv")
    with (tmp_path / "list.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["score"], row["threshold"], row["is_anomalous"]) for row in rows] == [
        (NAMES[0], "4", "2.5", "true"),
        (NAMES[1], "3", "2.5", "true"),
    ]


def test_the_list_runs_nothing_in_a_spreadsheet(page: Page, tmp_path: Path) -> None:
    names = ["=1+1.png", "'@a.png", "a;-b.png", "\udcff.png", "plain.png"]
    shown = [Shown(name, 2.0 - i / 10, 1.5, defect="-crack") for i, name in enumerate(names)]
    write_whole(tmp_path / "report.html", report_page("Test", "", shown, labelled=True))
    page.goto((tmp_path / "report.html").as_uri())
    with page.expect_download() as download:
        page.locator("#export").click()
    download.value.save_as(tmp_path / "list.csv")
    with (tmp_path / "list.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["'=1+1.png", "''@a.png", "a;'-b.png", r"\xff.png", "plain.png"]
    assert {(row["threshold"], row["label"]) for row in rows} == {("1.5", "'-crack")}
    assert [row["path"] for row in read_csv(tmp_path / "list.csv")] == names


def colour(page: Page, x: float, y: float) -> tuple[int, ...]:
    """Of the enlarged picture at this share of its width and height, as a person sees it."""
    box = page.locator("#picture").bounding_box()
    assert box is not None
    shot = page.locator("#picture").screenshot(type="png")
    folder = Path(page.url.removeprefix("file://")).parent
    (folder / "shot.png").write_bytes(shot)
    pixels = np.asarray(Image.open(folder / "shot.png").convert("RGB"))
    return tuple(int(v) for v in pixels[int(y * pixels.shape[0]), int(x * pixels.shape[1])])


def test_an_image_enlarged(page: Page, predicted: Path) -> None:
    page.goto(predicted.as_uri())
    page.locator(".card").nth(1).click()
    expect(page.locator("#name")).to_have_text(NAMES[1])
    expect(page.locator("#facts")).to_contain_text("Score 3, above the threshold 1.5. 6.25 % of the photo is marked.")
    assert page.locator("#regions td").all_text_contents() == ["0, 0", "20 × 15", "300", "3"]
    page.wait_for_function("[...document.querySelectorAll('#picture img')].every(image => image.complete)")
    ratio = page.locator("#picture").evaluate("picture => picture.clientWidth / picture.clientHeight")
    assert ratio == pytest.approx(80 / 60, rel=0.02)

    view = lambda name: page.locator(f"input[value={name}]").check()  # noqa: E731
    view("photo")
    assert colour(page, 0.1, 0.1) == pytest.approx((128, 128, 128), abs=3)
    view("mask")
    page.locator("#opacity").fill("100")
    assert colour(page, 0.1, 0.1) == pytest.approx((0, 255, 255), abs=3)
    assert colour(page, 0.8, 0.8) == pytest.approx((128, 128, 128), abs=3)
    view("heat")
    assert colour(page, 0.1, 0.1) == pytest.approx((252, 255, 164), abs=4)  # the upper end of the colours
    assert colour(page, 0.8, 0.8) == pytest.approx((0, 0, 4), abs=4)
    page.locator("#opacity").fill("50")
    assert colour(page, 0.8, 0.8) == pytest.approx((64, 64, 66), abs=4)
    view("outline")
    assert colour(page, 0.1, 0.1) == pytest.approx((128, 128, 128), abs=3)
    shot = np.asarray(Image.open(predicted.parent / "shot.png").convert("RGB")).astype(int)
    cyan = (np.abs(shot - [0, 255, 255]).sum(2) < 30).any(0)
    assert 0.2 < np.flatnonzero(cyan).max() / len(cyan) < 0.3, "the line runs around the quarter that is marked"


def test_the_keyboard(page: Page, predicted: Path) -> None:
    page.goto(predicted.as_uri())
    page.locator(".card").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#name")).to_have_text(NAMES[1])
    for key, name in (("ArrowRight", NAMES[2]), ("ArrowLeft", NAMES[1]), ("ArrowLeft", NAMES[0])):
        page.keyboard.press(key)
        expect(page.locator("#name")).to_have_text(name)
    page.keyboard.press("ArrowLeft")  # there is none before the first
    expect(page.locator("#name")).to_have_text(NAMES[0])
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).not_to_be_visible()
    expect(page.locator(".card").first).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_is_wider_than_the_screen_and_text_is_legible(
    page: Page, predicted: Path, width: int, scheme: str
) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(predicted.as_uri())
    check_fits_and_is_legible(page, width, scheme)
    page.locator(".card").first.click()
    box = page.locator("#viewer").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("count", [0, PLENTY])
def test_any_number_of_images(page: Page, tmp_path: Path, count: int) -> None:
    files = pictures(tmp_path, "one") | {"truth": ""}
    images = [Shown(f"{i:05d}.png", float(i), 9.5, share=0.1, **files) for i in range(count)]
    (tmp_path / "report.html").write_text(report_page("Many", "", images))
    page.goto((tmp_path / "report.html").as_uri())
    expect(page.locator("#counts")).to_contain_text(f"{count} images: {max(0, count - 10)} anomalous")
    if count:
        assert page.locator(".card").count() < count  # as many as there is room for, and more when they are scrolled to
        for _ in range(5):
            page.locator(".card").last.scroll_into_view_if_needed()
            page.wait_for_timeout(100)
        expect(page.locator(".card")).to_have_count(count)


def test_a_labelled_report_tells_what_was_missed(page: Page, tmp_path: Path) -> None:
    truth = address("report/truth/bolt/scratch/1.png.png")
    images = [
        image(tmp_path, "bolt/scratch/1.png", 4.0, defect="scratch", truth=truth),
        image(tmp_path, "bolt/scratch/2.png", 1.0, defect="scratch"),
        image(tmp_path, "bolt/good/3.png", 2.0),
        image(tmp_path, "bolt/good/4.png", 0.5),
    ]  # fmt: skip
    table = html_table(["category", "AUROC"], [["<b>bolt</b>", "0.7500"]], "Figures")
    (tmp_path / "report.html").write_text(report_page("Test", "", images, [table], labelled=True))
    page.goto((tmp_path / "report.html").as_uri())
    expect(page.locator("td").first).to_have_text("<b>bolt</b>")
    expect(page.locator("#counts")).to_contain_text("Defects found: 1 of 2; false alarms: 1 of 2.")
    page.locator("#verdict").select_option("missed")
    assert names(page) == ["bolt/scratch/2.png"]
    page.locator("#verdict").select_option("false")
    assert names(page) == ["bolt/good/3.png"]
    page.locator("#verdict").select_option("all")
    page.locator(".card").first.click()
    expect(page.locator("#facts")).to_contain_text("Labelled as defect: scratch.")
    page.locator("input[value=photo]").check()
    with_truth = page.locator("#picture img").count()
    page.locator("#truth").uncheck()
    assert (with_truth, page.locator("#picture img").count()) == (2, 1)


def test_thresholds_of_several_categories_move_together(page: Page, tmp_path: Path) -> None:
    images = [image(tmp_path, "nut/a.png", 3.0, threshold=2.0), image(tmp_path, "bolt/b.png", 30.0, threshold=40.0)]
    (tmp_path / "report.html").write_text(report_page("Two", "", images))
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator(".card .badge").all_text_contents() == ["normal", "anomalous"]
    page.locator("#exact").fill("0.7")
    assert page.locator(".card .badge").all_text_contents() == ["anomalous", "anomalous"]
    page.locator("#exact").fill("1.5")
    assert page.locator(".card .badge").all_text_contents() == ["normal", "normal"]
