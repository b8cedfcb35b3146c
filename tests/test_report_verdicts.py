"""report.html of a calibrated model: products, unknown photos, the false alarms promised, and verdicts marked wrong."""

import csv
import math
from itertools import pairwise
from pathlib import Path

import pytest
from pages import image, names, slide
from playwright.sync_api import Page, expect

from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.photo_lists import read_list
from sivt_lightning.report.page import Shown, report_page

SHARE = 0.05
RARE = {  # path: product, one of how many good parts, verdict at 5 %; score
    "gear/a.png": ("gear", 25_000.0, "anomalous", 2.0),
    "gear/b.png": ("gear", 250.0, "anomalous", 1.0),
    "gear/c.png": ("gear", 2.5, "normal", 0.1),
    "wood/d.png": ("wood", 40.0, "anomalous", 80.0),
    "wood/e;-f.png": ("wood", 15.0, "normal", 70.0),
    "wood/g.png": ("wood", 1.2, "normal", 50.0),
    "belt.png": ("", 3.0, "unknown", 9.0),
}
RANKED = ["belt.png", "gear/a.png", "gear/b.png", "wood/d.png", "wood/e;-f.png", "gear/c.png", "wood/g.png"]


def shown(folder: Path, name: str, **settings: object) -> Shown:
    product, times, verdict, score = RARE[name]
    nearest = {"nearest": product or "gear", "calibrated": math.log10(times), "verdict": verdict, "product": product}
    return image(folder, name, score, **(nearest | settings))


def write_page(folder: Path, **settings: object) -> Path:
    images = [shown(folder, name) for name in RARE]
    images.append(Shown("bad.png", None, None, error="bad.png cannot be read: the file is empty."))
    for name in RARE:
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).touch()
    asked: dict = {"share": SHARE, "base": folder / "photos"} | settings
    (folder / "report.html").write_text(report_page("Predictions", "", images, **asked))
    return folder / "report.html"


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("calibrated"))


def badges(page: Page) -> dict[str, str]:
    return dict(zip(names(page), page.locator(".card .badge").all_text_contents(), strict=True))


def downloaded(page: Page, button: str, file: Path) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.locator(button).click()
    assert download.value.suggested_filename == file.name
    download.value.save_as(file)
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def enlarge(page: Page, name: str) -> None:
    page.locator(".card", has=page.get_by_text(name, exact=True)).click()
    expect(page.locator("#name")).to_have_text(name)


def test_verdicts_are_those_of_the_table_and_unknown_ones_come_first(page: Page, calibrated: Path) -> None:
    page.goto(calibrated.as_uri())
    assert names(page) == [*RANKED, "bad.png"]
    assert badges(page) == {name: RARE[name][2] for name in RANKED} | {"bad.png": "no result"}
    expect(page.locator("#counts")).to_have_text("8 images: 3 anomalous, 3 normal, 1 unknown, 1 without a result.")
    expect(page.locator("header")).to_contain_text("held against good parts of its own product")
    expect(page.locator("header")).to_contain_text("It is unknown where it looks like none of the products")
    worth = page.locator(".card .line span:last-child").all_text_contents()
    assert worth == ["", "< 1 in 10,000", "1 in 250", "1 in 40", "1 in 15", "1 in 2.5", "1 in 1.2", ""]
    page.locator("#order").select_option("low")
    assert names(page) == [*RANKED[::-1], "bad.png"]
    page.locator("#verdict").select_option("unknown")
    assert names(page) == ["belt.png"]


def test_a_verdict_at_the_first_share_is_the_tables_whatever_its_digits(page: Page, tmp_path: Path) -> None:
    close = shown(tmp_path, "gear/c.png", calibrated=1.30103)  # six digits of 1.30102999, which is not above 5 %
    (tmp_path / "report.html").write_text(report_page("One", "", [close], share=SHARE))
    page.goto((tmp_path / "report.html").as_uri())
    assert badges(page) == {"gear/c.png": "normal"}


def test_the_slider_sets_the_false_alarms_promised(page: Page, calibrated: Path) -> None:
    page.goto(calibrated.as_uri())
    expect(page.locator("#exact")).to_have_value("5")
    expect(page.locator("#unit")).to_have_text("False alarms promised, in %")
    page.locator("#exact").fill("1")
    assert [name for name, verdict in badges(page).items() if verdict == "anomalous"] == ["gear/a.png", "gear/b.png"]
    assert badges(page)["belt.png"] == "unknown"
    page.locator("#exact").fill("10")
    assert badges(page)["wood/e;-f.png"] == "anomalous"
    for wrong in ("0", "100", ""):
        page.locator("#exact").fill(wrong)
        assert badges(page)["wood/e;-f.png"] == "anomalous"
    slide(page, 0)
    expect(page.locator("#exact")).to_have_value("50")
    slide(page, 1000)
    assert float(page.locator("#exact").input_value()) <= 0.01
    assert "anomalous" not in [verdict for name, verdict in badges(page).items() if name != "gear/a.png"]
    page.get_by_role("button", name="Back to 5 %").click()
    assert badges(page)["wood/d.png"] == "anomalous"
    # The slider's thumb stands below the histogram's line, though it begins at 50 %.
    line = float(page.locator("#histogram line").get_attribute("x1") or "nan")
    box, slider = page.locator("#histogram").bounding_box(), page.locator("#slider").bounding_box()
    assert box is not None
    assert slider is not None
    share = float(page.locator("#slider").input_value()) / 1000
    assert slider["x"] - box["x"] + 8 + share * (slider["width"] - 16) == pytest.approx(line, abs=1.5)


def test_the_histogram_is_of_one_product_or_of_all(page: Page, calibrated: Path) -> None:
    page.goto(calibrated.as_uri())
    ticks = page.locator("#histogram text").all_text_contents()
    assert {"1 in 10", "1 in 100", "1 in 1,000", "1 in 10,000"} <= set(ticks)
    assert page.locator("#histogram rect").count() == 7
    assert page.locator("#histogram rect.strange").count() == 1
    assert page.locator("#product option").all_text_contents() == ["all products", "gear", "wood"]
    page.locator("#product").select_option("wood")
    assert names(page) == ["wood/d.png", "wood/e;-f.png", "wood/g.png"]
    assert page.locator("#histogram rect").count() == 3
    colours = [f"getComputedStyle(document.querySelector('i.{kind}')).backgroundColor" for kind in
               ("calm", "strange", "alarm")]  # fmt: skip
    assert len({page.evaluate(colour) for colour in colours}) == 3


def test_the_viewer_says_what_a_score_means(page: Page, calibrated: Path) -> None:
    page.goto(calibrated.as_uri())
    for name, said in {
        "gear/b.png": "Product: gear. Score 1, above the threshold 1.5. A good gear scores this high or higher about 1 "
        "time in 250.",
        "gear/a.png": "A good gear scores this high or higher less than 1 time in 10,000.",
        "wood/g.png": "A good wood scores this high or higher more than every second time.",
        "belt.png": "Looks like none of the products that the model knows. Nearest to it is gear. Score 9.",
    }.items():
        enlarge(page, name)
        expect(page.locator("#facts")).to_contain_text(said)
        page.keyboard.press("Escape")


def test_what_is_normal_has_no_outline(page: Page, calibrated: Path) -> None:
    page.goto(calibrated.as_uri())
    outlined = lambda: page.locator(".card:has(img.outline) .name").all_text_contents()  # noqa: E731
    assert outlined() == RANKED[:4]
    enlarge(page, "gear/c.png")
    assert page.locator("#picture img").count() == 1
    assert page.locator("#regions td").count() == 0
    expect(page.locator("#facts")).not_to_contain_text("is marked")
    for view in ("heat", "mask"):
        page.locator(f"input[value={view}]").check()
        assert page.locator(f"#picture img.{view}").count() == 1
    page.keyboard.press("Escape")
    page.locator("#exact").fill("1")
    assert outlined() == RANKED[:3]


def test_marks_are_made_undone_and_kept(page: Page, calibrated: Path) -> None:
    page.goto(calibrated.as_uri())
    enlarge(page, "gear/b.png")
    page.keyboard.press("w")
    expect(page.locator("#wrong")).to_have_text("marked good: undo (w)")
    page.keyboard.press("ArrowRight")
    page.locator("#wrong").click()
    page.keyboard.press("w")
    expect(page.locator("#wrong")).to_have_text("Verdict is wrong (w)")
    page.keyboard.press("Escape")
    assert page.locator(".card .mark").all_text_contents() == ["marked good"]
    page.reload()
    assert page.locator(".card .mark").all_text_contents() == ["marked good"]
    expect(page.locator("#marked")).to_have_text("1 marked.")
    page.locator("#exact").fill("0.1")  # where the verdict is right, the mark says what it did
    assert page.locator(".card .mark").all_text_contents() == ["marked good"]
    page.locator("#verdict").select_option("marked")
    assert names(page) == ["gear/b.png"]


def test_marks_of_another_run_are_not_taken(page: Page, calibrated: Path, tmp_path: Path) -> None:
    page.goto(calibrated.as_uri())
    enlarge(page, "gear/b.png")
    page.keyboard.press("w")
    page.goto(write_page(tmp_path, share=0.01).as_uri())
    assert page.locator(".card .mark").count() == 0


def test_a_browser_that_keeps_nothing_is_told(page: Page, calibrated: Path) -> None:
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('refused') } })")
    page.goto(calibrated.as_uri())
    expect(page.locator("#refused")).to_be_visible()
    enlarge(page, "gear/b.png")
    page.keyboard.press("w")
    page.keyboard.press("Escape")
    assert page.locator(".card .mark").all_text_contents() == ["marked good"]


def test_the_saved_verdicts_are_what_calibrate_takes(page: Page, calibrated: Path, tmp_path: Path) -> None:
    page.goto(calibrated.as_uri())
    for name in ("gear/b.png", "wood/g.png", "belt.png"):
        enlarge(page, name)
        page.keyboard.press("w")
        page.keyboard.press("Escape")
    page.locator("#verdict").select_option("normal")  # the list is of all photos all the same
    rows = downloaded(page, "#verdicts", tmp_path / "verdicts.csv")
    photos = calibrated.parent.resolve() / "photos"
    assert {row["path"]: (row["product"], row["label"]) for row in rows} == {
        f"{photos}/gear/a.png": ("gear", "defect"),
        f"{photos}/gear/b.png": ("gear", "good"),
        f"{photos}/gear/c.png": ("gear", "good"),
        f"{photos}/wood/d.png": ("wood", "defect"),
        f"{photos}/wood/e;'-f.png": ("wood", "good"),
        f"{photos}/wood/g.png": ("wood", "defect"),
        f"{photos}/belt.png": ("gear", "good"),
        f"{photos}/bad.png": ("", ""),
    }
    listed = read_list(tmp_path / "verdicts.csv")
    good = {(sample.path.relative_to(photos).as_posix(), sample.category) for sample in listed.good}
    assert good == {("gear/b.png", "gear"), ("gear/c.png", "gear"), ("wood/e;-f.png", "wood"), ("belt.png", "gear")}
    defects = {name: [path.name for path in paths] for name, paths in listed.defects.items()}
    assert defects == {"gear": ["a.png"], "wood": ["d.png", "g.png"]}


def test_an_unknown_photo_that_nobody_has_marked_teaches_nothing(page: Page, calibrated: Path, tmp_path: Path) -> None:
    page.goto(calibrated.as_uri())
    rows = downloaded(page, "#verdicts", tmp_path / "verdicts.csv")
    assert [row["label"] for row in rows if row["path"].endswith("belt.png")] == [""]


def test_of_labelled_images_the_labels_are_saved(page: Page, tmp_path: Path) -> None:
    images = [shown(tmp_path, "gear/b.png"), shown(tmp_path, "gear/c.png", defect="crack"), shown(tmp_path, "belt.png")]
    (tmp_path / "report.html").write_text(report_page("Test", "", images, labelled=True, share=SHARE))
    page.goto((tmp_path / "report.html").as_uri())
    # What is unknown has not passed: the same count as in the table of verdicts.
    expect(page.locator("#counts")).to_contain_text(
        "Defects found: 0 of 1; false alarms: 2 of 2 (unknown ones included)"
    )
    rows = downloaded(page, "#verdicts", tmp_path / "verdicts.csv")
    assert [(row["path"], row["label"]) for row in rows] == [
        ("gear/b.png", "good"), ("gear/c.png", "defect"), ("belt.png", "good"),
    ]  # fmt: skip
    with pytest.raises(SIVTError, match="is not there"):  # without a base they are seen from the list
        read_list(tmp_path / "verdicts.csv")


def test_the_saved_list_has_product_verdict_and_calibrated_score(page: Page, calibrated: Path, tmp_path: Path) -> None:
    page.goto(calibrated.as_uri())
    rows = {row["path"]: row for row in downloaded(page, "#export", tmp_path / "list.csv")}
    assert rows["gear/b.png"]["threshold"] == "1.5"
    named = ("is_anomalous", "verdict", "product", "calibrated")
    assert [rows["belt.png"][name] for name in named[:3]] == ["true", "unknown", ""]  # it has not passed
    assert [rows["gear/c.png"][name] for name in named] == ["false", "normal", "gear", str(math.log10(2.5))]
    page.locator("#exact").fill("1")
    rows = {row["path"]: row for row in downloaded(page, "#export", tmp_path / "list.csv")}
    assert (rows["wood/d.png"]["verdict"], rows["wood/d.png"]["threshold"]) == ("normal", "")  # the page knows no other


def test_with_a_threshold_of_hand_the_page_goes_by_scores(page: Page, tmp_path: Path) -> None:
    page.goto(write_page(tmp_path, share=None).as_uri())
    expect(page.locator("header")).to_contain_text("A photo is anomalous where its score is above its threshold.")
    expect(page.locator("header")).not_to_contain_text("share")
    expect(page.locator("#unit")).to_have_text("Threshold")
    page.locator("#exact").fill("60")
    assert badges(page)["wood/e;-f.png"] == "anomalous"
    assert badges(page)["wood/g.png"] == "normal"
    assert badges(page)["belt.png"] == "unknown"


def test_a_model_without_calibration_says_nothing_of_products(page: Page, tmp_path: Path) -> None:
    images = [image(tmp_path, "a.png", 2.0, verdict="anomalous"), image(tmp_path, "b.png", 1.0, verdict="normal")]
    (tmp_path / "report.html").write_text(report_page("Old", "", images))
    page.goto((tmp_path / "report.html").as_uri())
    expect(page.locator("header")).not_to_contain_text("product")
    expect(page.locator("#product")).not_to_be_visible()
    expect(page.locator("#key")).to_have_text("normalanomalous")
    assert page.locator("#verdict option").all_text_contents() == ["all images", "anomalous", "normal", "marked by you"]
    page.locator(".card").first.click()
    expect(page.locator("#facts")).to_have_text("Score 2, above the threshold 1.5. 6.25 % of the photo is marked.")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(page: Page, calibrated: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(calibrated.as_uri())
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [text.bounding_box() for text in page.locator("#histogram text").all()]
    ends = [(box["x"], box["x"] + box["width"]) for box in boxes if box is not None]
    assert all(end < begin for (_, end), (begin, _) in pairwise(ends))
    assert ends[-1][1] <= width
    field, panel = page.locator("#exact").bounding_box(), page.locator("section.panel").first.bounding_box()
    assert field is not None
    assert panel is not None
    assert field["x"] + field["width"] <= panel["x"] + panel["width"]
