"""The page of the server in a real browser: what a person can do with it, and that it asks the model nothing itself."""

import base64
import io
import re
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from coloured import PRODUCTS, TOKEN, Coloured, ColouredModel, client_of, listening
from parts import about_of
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from test_serve_metrics import series
from torch import Tensor

from sivt_lightning.inference.calibration import Calibration
from sivt_lightning.model.detection import Detection
from sivt_lightning.serve.app import Limits

HOSTILE = "<img src=x onerror=alert(1)>.png"
SIZE = (80, 60)


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
def refused(browser: Browser) -> Iterator[Page]:
    """A tab whose console may tell, as browsers do, of requests that were answered with a refusal."""
    context = browser.new_context()
    tab, faults = context.new_page(), []
    tab.on("console", lambda message: faults.append(message.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    yield tab
    assert [fault for fault in faults if not fault.startswith("Failed to load resource: the server responded")] == []
    context.close()


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
    page.wait_for_function("[...document.querySelectorAll('#picture img')].every(image => image.complete)")
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
    assert sum(colour(page, 0.1, 0.1)) > 400  # 150 of 190: near the upper end
    page.locator("input[value=outline]").check()
    assert colour(page, 0.1, 0.1) == (150, 0, 0)
    give(page, part(20, green=200), "c.png")
    expect(page.locator("#badge")).to_have_text("normal")
    expect(page.locator("#facts")).to_contain_text("Product: nut. Score 20, not above the threshold 95.")
    expect(page.locator("#boxed")).not_to_be_visible()
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
    assert sum(colour(page, 0.1, 0.1)) > 400


def test_many_photos_are_judged_one_after_the_other(page: Page, place: str, model: Coloured) -> None:
    page.goto(place)
    photos = [{"name": f"{i}.png", "mimeType": "image/png", "buffer": part(10 * i)} for i in range(5)]
    page.locator("#file").set_input_files(photos)  # type: ignore[arg-type]
    expect(page.locator("#title")).to_have_text("4.png")
    assert model.batches == [1] * 5


@pytest.mark.parametrize("keeps", [False])
def test_it_asks_one_thing_at_a_time_and_nothing_of_the_model(
    page: Page, place: str, model: Coloured, keeps: bool
) -> None:
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
    assert most == 1
    assert set(asked) == {"v1/model", "v1/drift"}
    assert model.batches == []

    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true, configurable: true })")
    page.clock.run_for(4100)
    page.wait_for_timeout(100)
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
        expect(refused.locator("main")).not_to_be_visible()
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
    tab.wait_for_function("broken.length >= 3")
    assert tab.evaluate("window.ran") is None
    tab.close()


def test_the_camera(page: Page, place: str) -> None:
    page.context.grant_permissions(["camera"])
    page.goto(place)
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#take")).to_be_focused()
    page.wait_for_function("video.videoWidth > 0")
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
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper, ink = (
        [int(v) for v in re.findall(r"\d+", page.evaluate(f"getComputedStyle(document.body).{of}"))]
        for of in ("backgroundColor", "color")
    )
    assert (np.mean(paper) > np.mean(ink)) == (scheme == "light")
    assert abs(np.mean(paper) - np.mean(ink)) > 180


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
