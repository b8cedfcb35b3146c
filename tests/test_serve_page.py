"""The page of the server in a real browser: what a person can do with it, and that it asks the model nothing itself."""

import base64
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from coloured import PRODUCTS, TOKEN, Coloured, ColouredModel, client_of, good, listening
from pages import check_fits_and_is_legible
from parts import about_of
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from test_serve_metrics import series
from torch import Tensor

from sivt_lightning.inference.calibration import Calibration, calibrate
from sivt_lightning.model.detection import Detection
from sivt_lightning.serve.app import Limits
from sivt_lightning.state.kept_parts import KeptParts

HOSTILE = "<img src=x onerror=alert(1)>.png"
SIZE = (80, 60)
HOT = (245, 128, 19)  # of "inferno", where a map is 150 and the pixel threshold 95


class SpottedModel(ColouredModel):
    """The map is the photo's red, the score the highest of it; the descriptor is the green of the first pixel."""

    def __init__(self, known: Calibration) -> None:
        self.about = about_of(known, 32)

    def __call__(self, images: Tensor) -> Detection:
        red, green, _ = (255 * images).round().unbind(1)
        return Detection(red.flatten(1).amax(1), red, green[:, :1, 0])


def spotted() -> Coloured:
    predictor = Coloured(known=PRODUCTS)
    predictor.model = SpottedModel(PRODUCTS)
    return predictor


def part(red: int, green: int = 0) -> bytes:
    """A photo whose upper left quarter is red: above 95 it is anomalous."""
    picture = Image.new("RGB", SIZE, (0, green, 0))
    picture.paste((red, green, 0), (0, 0, SIZE[0] // 2, SIZE[1] // 2))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def model() -> Coloured:
    return spotted()


@pytest.fixture
def place(model: Coloured) -> Iterator[str]:
    with listening(Limits(), predictor=model) as (host, port):
        yield f"http://{host}:{port}/"


@pytest.fixture
def keeping(model: Coloured, tmp_path: Path) -> Iterator[str]:
    """A server that keeps parts."""
    with listening(Limits(), predictor=model, kept=KeptParts(tmp_path / "state")) as (host, port):
        yield f"http://{host}:{port}/"


def judged(place: str, *reds: int, name: str = "{}.png") -> None:
    """Parts that came from a line, and are kept."""
    for red in reds:
        files = {"file": (name.format(red), part(red))}
        newest = httpx.post(f"{place}v1/predict", files=files).raise_for_status().json()["part"]
    while httpx.get(f"{place}v1/parts/{newest}/map").status_code != 200:  # it is written after the answer
        time.sleep(0.01)


@pytest.fixture
def refused(browser: Browser) -> Iterator[Page]:
    """A tab whose console may tell, as browsers do, of requests that were answered with a refusal."""
    context = browser.new_context()
    tab, faults = context.new_page(), []
    tab.on("console", lambda message: faults.append(message.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    yield tab
    assert [fault for fault in faults if not fault.startswith("Failed to load resource: the server responded")] == []
    context.close()


def until(page: Page, holds: str) -> None:
    """Waits in the way that the page's policy allows: it lets no text become code."""
    for _ in range(500):
        if page.evaluate(holds):
            return
        page.wait_for_timeout(20)
    raise AssertionError(holds)


def give(page: Page, content: bytes, name: str = "a.png") -> None:
    page.locator("#file").set_input_files([{"name": name, "mimeType": "image/png", "buffer": content}])


def drop(page: Page, content: bytes, name: str) -> None:
    made = """([content, name]) => {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        const held = new DataTransfer();
        held.items.add(new File([bytes], name, { type: "image/png" }));
        return held;
    }"""
    held = page.evaluate_handle(made, [base64.b64encode(content).decode(), name])
    page.dispatch_event("#drop", "drop", {"dataTransfer": held})


def colour(page: Page, x: float, y: float) -> tuple[int, ...]:
    """Of the picture at this share of its width and height, as a person sees it."""
    until(page, "[...document.querySelectorAll('#picture img')].every(image => image.complete)")
    pixels = np.asarray(Image.open(io.BytesIO(page.locator("#picture").screenshot())).convert("RGB"))
    return tuple(int(v) for v in pixels[int(y * pixels.shape[0]), int(x * pixels.shape[1])])


def test_a_dropped_photo_gets_verdict_map_and_regions(page: Page, place: str, model: Coloured) -> None:
    page.goto(place)
    drop(page, part(150), "b.png")
    expect(page.locator("#badge")).to_have_text("anomalous")
    expect(page.locator("#title")).to_have_text("b.png")
    expect(page.locator("#facts")).to_contain_text("Product: bolt. Score 150, above the threshold 95.")
    assert page.locator("#regions td").all_text_contents()[:3] == ["1", "0, 0", "40 × 30"]
    box, whole = (page.locator(of).bounding_box() for of in (".box", "#picture"))
    assert box is not None
    assert whole is not None
    assert box["width"] / whole["width"] == pytest.approx(0.5, abs=0.02)
    page.locator("#boxes").uncheck()
    page.locator("input[value=photo]").check()
    assert colour(page, 0.1, 0.1) == (150, 0, 0)
    page.locator("input[value=heat]").check()
    page.locator("#opacity").fill("100")
    assert colour(page, 0.9, 0.9) == pytest.approx((0, 0, 4), abs=4)  # nothing
    assert colour(page, 0.1, 0.1) == pytest.approx(HOT, abs=4)
    page.locator("input[value=outline]").check()
    assert colour(page, 0.1, 0.1) == (150, 0, 0)
    give(page, part(20, green=200), "c.png")
    expect(page.locator("#badge")).to_have_text("normal")
    expect(page.locator("#facts")).to_contain_text("Product: nut. Score 20, not above the threshold 95.")
    expect(page.locator("#boxed")).not_to_be_visible()
    expect(page.locator("#picture img")).to_have_count(1)  # what is normal has no outline
    give(page, part(20, green=100), "d.png")
    expect(page.locator("#badge")).to_have_text("unknown")
    assert len(model.batches) == 3


def test_what_is_no_photo_is_told_in_the_servers_sentence(refused: Page, place: str) -> None:
    sentence = httpx.post(f"{place}v1/predict", content=b"none").json()["error"]
    refused.goto(place)
    give(refused, b"none", HOSTILE)
    expect(refused.locator("#said")).to_have_text(f"{HOSTILE}: {sentence}")
    expect(refused.locator("#part")).not_to_be_visible()


def test_a_photo_that_the_browser_cannot_show(page: Page, place: str) -> None:
    page.goto(place)
    file = io.BytesIO()
    Image.open(io.BytesIO(part(150))).save(file, "TIFF")
    give(page, file.getvalue(), "a.tif")
    expect(page.locator("#badge")).to_have_text("anomalous")
    expect(page.locator("#unseen")).to_contain_text("here is the map alone")
    assert colour(page, 0.1, 0.1) == pytest.approx(HOT, abs=4)


def test_many_photos_are_judged_one_after_the_other(page: Page, place: str, model: Coloured) -> None:
    page.goto(place)
    photos = [{"name": f"{i}.png", "mimeType": "image/png", "buffer": part(10 * i)} for i in range(5)]
    page.locator("#file").set_input_files(photos)  # type: ignore[arg-type]
    expect(page.locator("#title")).to_have_text("4.png")
    assert model.batches == [1] * 5


@pytest.mark.parametrize("kind", ["place", "keeping"])
def test_it_asks_one_thing_at_a_time_and_nothing_of_the_model(
    page: Page, kind: str, model: Coloured, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue(kind)
    asked, running, most = list[str](), set[object](), 0

    def begun(request: object) -> None:
        nonlocal most
        running.add(request)
        most = max(most, len(running))
        asked.append(request.url.removeprefix(place))  # type: ignore[attr-defined]

    page.clock.install()
    page.goto(place)
    page.on("request", begun)
    page.on("requestfinished", lambda request: running.discard(request))
    for _ in range(3):
        with page.expect_response("**/v1/drift"):
            for _ in range(6):
                page.clock.run_for(4100)
                page.wait_for_timeout(50)
    page.evaluate("() => { for (let i = 0; i < 5; i += 1) document.dispatchEvent(new Event('visibilitychange')); }")
    page.wait_for_timeout(300)
    assert most == 1
    assert set(asked) == {"v1/model", "v1/drift", *(["v1/parts?last=100"] if kind == "keeping" else [])}
    assert model.batches == []

    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true, configurable: true })")
    page.clock.run_for(4100)
    until(page, "!looking")
    asked.clear()
    page.clock.run_for(60_000)
    page.wait_for_timeout(100)
    assert asked == []
    with page.expect_response("**/v1/drift"):
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        for _ in range(6):
            page.clock.run_for(4100)
            page.wait_for_timeout(50)


def test_the_token_is_asked_for_and_kept_with_the_tab(refused: Page, model: Coloured) -> None:
    with listening(Limits(), TOKEN, model) as (host, port):
        refused.goto(f"http://{host}:{port}/")
        expect(refused.locator("#token")).to_be_focused()
        expect(refused.locator("main")).not_to_be_visible()
        drop(refused, part(150), "a.png")  # into nothing
        refused.keyboard.type("another-token-of-the-line")
        refused.keyboard.press("Enter")
        expect(refused.locator("#locked")).to_have_text("The server takes another token.")
        assert refused.evaluate("sessionStorage.length") == 0
        refused.locator("#token").fill(TOKEN)
        refused.keyboard.press("Enter")
        expect(refused.locator("#model")).to_contain_text("coloured")
        give(refused, part(150))
        expect(refused.locator("#badge")).to_have_text("anomalous")
        refused.reload()
        expect(refused.locator("#model")).to_contain_text("coloured")
        refused.get_by_role("button", name="Forget the token").click()
        expect(refused.locator("#token")).to_be_focused()
        assert refused.evaluate("sessionStorage.length + localStorage.length") == 0
        assert TOKEN not in refused.content()


def test_the_page_itself_is_for_all_and_holds_nothing(model: Coloured) -> None:
    with client_of(model, token=TOKEN) as client:
        answer, empty = client.get("/"), client.head("/")
        counted = series(client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text)
    assert (answer.status_code, empty.status_code, empty.content) == (200, 200, b"")
    assert counted["sivt_requests_total", (("path", "/"), ("status", "200"))] == 2
    assert not re.search(r"bolt|" + TOKEN, answer.text)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|url\((?!#)""", answer.text)
    assert not re.search(r"<[^>]+\s(on\w+|style)\s*=", answer.text.split("<script id")[0])
    rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert (rules["default-src"], rules["frame-ancestors"], rules["connect-src"]) == ("'none'", "'none'", "'self'")
    assert all(re.fullmatch(r"'sha256-[\w+/=]+'", rules[of]) for of in ("script-src", "style-src"))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_policy_lets_in_nothing_else(browser: Browser, place: str) -> None:
    tab = browser.new_page()
    tab.goto(place)
    tab.evaluate("""() => {
        window.broken = [];
        document.addEventListener("securitypolicyviolation", (event) => broken.push(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        const picture = document.createElement("img");
        picture.setAttribute("onerror", "window.ran = true");
        picture.src = "http://127.0.0.1:9/a.png";
        document.body.append(script, picture);
    }""")
    until(tab, "broken.length >= 3")
    assert tab.evaluate("window.ran") is None
    tab.close()


def test_the_camera(page: Page, place: str) -> None:
    page.context.grant_permissions(["camera"])
    page.goto(place)
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#take")).to_be_focused()
    until(page, "video.videoWidth > 0")
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_have_text(re.compile(r"^camera-[\dT-]+\.png$"))
    expect(page.locator("#facts")).to_contain_text("Score ")
    page.get_by_role("button", name="Turn the camera off").click()
    expect(page.locator("#live")).not_to_be_visible()
    assert page.evaluate("stream === null")


@pytest.mark.parametrize(
    ("breaks", "sentence"),
    [
        ("", "not allowed to use the camera"),
        (
            "navigator.mediaDevices.getUserMedia = async () => { throw { name: 'NotFoundError' } }",
            "no camera",
        ),
        ("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })", "only to pages over HTTPS"),
    ],
)
def test_without_a_camera_one_sentence(page: Page, place: str, breaks: str, sentence: str) -> None:
    page.goto(place)
    page.evaluate(f"() => {{ {breaks} }}")
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#said")).to_contain_text(sentence)
    expect(page.locator("#live")).not_to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen_and_text_is_legible(page: Page, place: str, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(place)
    give(page, part(150), "a" * 200 + ".png")
    expect(page.locator("#badge")).to_have_text("anomalous")
    check_fits_and_is_legible(page, width, scheme)


def test_a_server_that_keeps_no_parts_says_so(page: Page, place: str) -> None:
    page.goto(place)
    expect(page.locator("#listed")).to_contain_text("keeps no parts")
    expect(page.locator("#drift")).to_contain_text("Cannot tell.")
    expect(page.locator("#model")).to_contain_text("coloured, sivt_lightning ")
    assert page.locator("#thresholds td").all_text_contents() == ["bolt", "95", "95", "nut", "95", "95"]
    assert page.locator(".kept:visible").count() == 0
    give(page, part(150))
    expect(page.locator("#badge")).to_have_text("anomalous")
    expect(page.locator("#marking")).not_to_be_visible()


def rows(page: Page) -> list[str]:
    """Verdict, product, score and threshold, then the mark of each part in the list."""
    told = page.locator("#parts tr").all_inner_texts()
    return [" ".join(row.split()[1:]) for row in told]


def widths(page: Page) -> list[int]:
    """Of the small pictures in the list, in their own pixels."""
    until(page, "[...document.querySelectorAll('#parts img')].every(image => image.complete)")
    return page.locator("#parts img").evaluate_all("images => images.map((image) => image.naturalWidth)")  # type: ignore[no-any-return]


def test_small_pictures_are_asked_for_where_they_are_seen(page: Page, keeping: str, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.open(io.BytesIO(part(30))).save(file, "TIFF")
    assert httpx.post(f"{keeping}v1/predict", content=file.getvalue()).status_code == 200
    judged(keeping, *range(40, 80), 20)
    newest, tiff = (httpx.get(f"{keeping}v1/parts").json()["parts"][place]["id"] for place in (0, -1))
    for name in (newest, tiff):  # as a version before them would have kept these
        (tmp_path / f"state/thumbnails/{name}.jpg").unlink()
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(keeping)
    expect(page.locator("#parts tr")).to_have_count(42)
    expect(page.locator("#parts img")).not_to_have_count(0)
    until(page, "!fetching")
    small = [url for url in asked if "/thumbnail" in url]
    assert 3 < len(small) < 30
    assert widths(page)[:3] == [SIZE[0], 32, 32], "the photo, where there is nothing smaller"
    with page.expect_response(f"**/{tiff}/thumbnail"):
        page.locator("#parts tr").last.scroll_into_view_if_needed()
    expect(page.locator("#parts tr").nth(-2).locator("img")).to_have_count(1)
    expect(page.locator("#parts tr").last.locator("img")).to_have_count(0)  # which the browser cannot show
    assert sum("/photo" in url for url in asked) == 1, "of the part that is shown"
    assert len([url for url in asked if "/thumbnail" in url]) == len({url for url in asked if "/thumbnail" in url})


def test_the_last_parts_with_photo_and_map(page: Page, keeping: str, model: Coloured) -> None:
    judged(keeping, 150, 20)
    page.goto(keeping)
    expect(page.locator("#listed")).to_contain_text("2 of 2.")
    assert rows(page) == ["20.png normal bolt 20 limit 95", "150.png anomalous bolt 150 limit 95"]
    expect(page.locator("#title")).to_have_text("20.png")  # the newest, until another is chosen
    page.locator("#parts tr").last.click()
    expect(page.locator("#title")).to_have_text("150.png")
    expect(page.locator("#facts")).to_contain_text("Product: bolt. Score 150, above the threshold 95.")
    expect(page.locator("#picture img")).to_have_count(2)
    page.locator("#opacity").fill("100")
    assert colour(page, 0.9, 0.9) == pytest.approx((0, 0, 4), abs=4)
    assert colour(page, 0.1, 0.1) == pytest.approx(HOT, abs=4)
    page.locator("input[value=photo]").check()
    assert colour(page, 0.1, 0.1) == (150, 0, 0)
    page.locator("#show").select_option("failed")
    assert rows(page) == ["150.png anomalous bolt 150 limit 95"]
    page.locator("#show").select_option("all")
    expect(page.locator("#parts img")).to_have_count(2)
    assert widths(page) == [32, 32]  # what the network saw
    before = len(model.batches)
    give(page, part(30, green=200), "mine.png")
    expect(page.locator("#title")).to_have_text("mine.png")
    expect(page.locator("#parts tr")).to_have_count(3, timeout=10_000)
    assert len(model.batches) == before + 1
    expect(page.locator("#hourly svg")).to_have_count(2)
    bolts = page.locator("#hourly svg").first.get_attribute("aria-label")
    assert bolts is not None
    assert bolts.startswith("bolt: 2 parts, 1 anomalous in 48 hours, at most ")


def test_marks_and_undo(page: Page, keeping: str) -> None:
    judged(keeping, 150, 20)
    page.goto(keeping)
    page.locator("#parts tr").last.click()
    page.get_by_role("button", name="Wrong: it is good").click()
    expect(page.locator("#marked")).to_contain_text("Say who you are first")
    expect(page.locator("#who")).to_be_focused()
    page.keyboard.type("<b>Ana</b>")
    page.get_by_role("button", name="Wrong: it is good").click()
    expect(page.locator("#marked")).to_contain_text("Marked as good by <b>Ana</b>, ")
    assert rows(page)[1].endswith("good <b>Ana</b>")
    page.locator("#show").select_option("open")
    expect(page.locator("#parts tr")).to_have_count(1)
    page.locator("#show").select_option("all")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the marks").click()
    assert download.value.suggested_filename == "marks.csv"
    assert download.value.path().read_text().splitlines()[1].endswith(".png,bolt,good")
    reload(page)  # the name is known, and the mark
    expect(page.locator("#who")).to_have_value("<b>Ana</b>")
    page.locator("#parts tr").last.click()
    page.get_by_role("button", name="Undo the mark").click()
    expect(page.locator("#marked")).to_have_text("")
    expect(page.locator("#undo")).not_to_be_visible()
    page.get_by_role("button", name="Right: it is defective").click()
    expect(page.locator("#right")).to_have_attribute("aria-pressed", "true")

    one = httpx.get(f"{keeping}v1/parts").json()["parts"][1]
    assert one["mark"]["says"] == "defect"
    said = {"says": "good", "who": "Ben"}
    assert httpx.post(f"{keeping}v1/parts/{one['id']}/mark", json=said).status_code == 200
    expect(page.locator("#marked")).to_contain_text("by Ben", timeout=10_000)  # who marks elsewhere is seen here


def test_a_part_that_is_gone_is_told(refused: Page, keeping: str) -> None:
    judged(keeping, 20)
    refused.goto(keeping)
    refused.locator("#who").fill("Ana")
    refused.clock.install()
    refused.route("**/mark", lambda route: route.fulfill(status=404, json={"error": "Part 7 is not kept."}))
    refused.locator("#wrong").click()
    expect(refused.locator("#marked")).to_have_text("Part 7 is not kept.")


def test_the_mark_of_a_photo_that_was_just_given(page: Page, keeping: str) -> None:
    page.goto(keeping)
    expect(page.locator("#listed")).to_have_text("None has been judged yet.")
    give(page, part(150))
    page.locator("#who").fill("Ana")
    page.get_by_role("button", name="Right: it is defective").click()
    expect(page.locator("#marked")).to_contain_text("Marked as defective by Ana")
    expect(page.locator("#parts tr")).to_have_count(1, timeout=10_000)


def reload(page: Page) -> None:
    """Once the small pictures in view have come: one that is broken off would be a fault of the page."""
    expect(page.locator("#parts img")).not_to_have_count(0)
    until(page, "!fetching")
    page.reload()


def test_false_alarms_are_told_where_marks_suffice(page: Page, keeping: str) -> None:
    judged(keeping, *[20] * 57, *[150] * 6)
    parts = httpx.get(f"{keeping}v1/parts").json()["parts"]
    called = [one["id"] for one in parts if one["verdict"] == "anomalous"]

    def mark(name: str, says: str) -> None:
        httpx.post(f"{keeping}v1/parts/{name}/mark", json={"says": says, "who": "Ana"}).raise_for_status()

    for name in called[:2]:
        mark(name, "good")
    page.goto(keeping)
    expect(page.locator("#alarms")).to_contain_text("Promised: at most 5 % of good parts are called anomalous.")
    expect(page.locator("#alarms")).to_contain_text(
        "Too little to tell what is observed: 2 marked of 6 called anomalous among the last 63."
    )
    mark(called[2], "good")
    for name in called[3:5]:
        mark(name, "defect")
    reload(page)
    expect(page.locator("#alarms")).to_contain_text(  # the one without a mark may be either
        "Observed: 5.9 %, between 1.7 % and 16 %. This rests on 5 marked of 6 called anomalous among the last 63."
    )
    mark(called[5], "defect")
    reload(page)
    # 3 of 60 good parts; by Wilson's formula between 1.7 and 13.7 %
    expect(page.locator("#alarms")).to_contain_text(
        "Observed: 5 %, between 1.7 % and 14 %. This rests on 6 marked of 6 called anomalous among the last 63."
    )


def test_names_are_text_wherever_they_come_from(page: Page, tmp_path: Path) -> None:
    known = calibrate({HOSTILE: good(0.0), "<script>alert(2)</script>": good(200.0)}, {})
    predictor = Coloured(known=known)
    predictor.model = SpottedModel(known)
    with listening(Limits(), predictor=predictor, kept=KeptParts(tmp_path / "state")) as (host, port):
        place = f"http://{host}:{port}/"
        judged(place, 150, name="</script><img src=x onerror=alert(3)>.png")
        page.goto(place)
        expect(page.locator("#title")).to_have_text("</script><img src=x onerror=alert(3)>.png")
        expect(page.locator("#facts")).to_contain_text(f"Product: {HOSTILE}.")
        expect(page.locator("#hourly b")).to_have_text(HOSTILE)
        expect(page.locator("#thresholds")).to_contain_text(HOSTILE)
        give(page, part(150), HOSTILE)
        expect(page.locator("#title")).to_have_text(HOSTILE)
        expect(page.locator("#parts tr")).to_have_count(2, timeout=10_000)
        assert page.locator("img[src=x]").count() == 0


def test_all_by_keyboard(page: Page, keeping: str) -> None:
    judged(keeping, 150, 20, 160)
    page.goto(keeping)
    expect(page.locator("#title")).to_have_text("160.png")
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        focused = page.evaluate("""() => {
            const one = document.activeElement;
            const ring = getComputedStyle(one).outlineStyle !== "none" && one.matches(":focus-visible");
            const named = one.textContent.trim() || one.labels?.length || one.ariaLabel;
            return [one.id || one.closest("tr")?.dataset.id && "row", ring && Boolean(named)];
        }""")
        reached.append(focused[0])
        assert focused[1], f"{focused[0]} has a name and a visible focus"
        if focused[0] == "row":
            break
    assert reached[:2] == ["choose", "camera"]
    assert {"opacity", "right", "wrong", "who", "show", "save", "row"} <= set(reached)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_have_text("150.png")
    judged(keeping, 30)
    expect(page.locator("#parts tr")).to_have_count(4, timeout=10_000)  # and the focus is where it was
    assert page.evaluate("document.activeElement.closest('tr').innerText").split()[1] == "150.png"
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_have_text("30.png")
    with page.expect_file_chooser() as chooser:
        page.locator("#choose").focus()
        page.keyboard.press("Enter")
    chooser.value.set_files({"name": "k.png", "mimeType": "image/png", "buffer": part(20)})
    expect(page.locator("#verdict")).to_contain_text("k.png")
    assert page.locator("#verdict").get_attribute("aria-live") == "polite"


def test_with_a_token_photos_and_maps_come_with_it(refused: Page, model: Coloured, tmp_path: Path) -> None:
    with listening(Limits(), TOKEN, model, KeptParts(tmp_path / "state")) as (host, port):
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        content = httpx.post(f"http://{host}:{port}/v1/predict", content=part(150), headers=bearer)
        assert content.status_code == 200
        refused.goto(f"http://{host}:{port}/")
        refused.locator("#token").fill(TOKEN)
        refused.keyboard.press("Enter")
        expect(refused.locator("#picture img")).to_have_count(2, timeout=10_000)
        sources = refused.locator("#picture img").evaluate_all("images => images.map((image) => image.src)")
        assert all(source.startswith("blob:") for source in sources)
        refused.locator("#who").fill("Ana")
        refused.get_by_role("button", name="Right: it is defective").click()
        expect(refused.locator("#marked")).to_contain_text("Marked as defective by Ana")


def test_trouble_is_told_and_goes_by(refused: Page, keeping: str) -> None:
    judged(keeping, 150)
    refused.clock.install()
    refused.goto(keeping)
    expect(refused.locator("#parts tr")).to_have_count(1)
    refused.route("**/v1/parts?last=100", lambda route: route.fulfill(status=503, json={"error": "The disk is full."}))
    refused.clock.run_for(4100)
    expect(refused.locator("#trouble")).to_have_text("The disk is full. What is shown may be old.")
    refused.unroute("**/v1/parts?last=100")
    refused.clock.run_for(9000)  # it waits longer
    expect(refused.locator("#trouble")).to_have_text("")
