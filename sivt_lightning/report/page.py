"""report.html: all images of a prediction or a test on one page that needs neither network nor server."""

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from urllib.parse import quote

from sivt_lightning.files import visible
from sivt_lightning.report.overlay import INFERNO, LEVEL

# Nothing from anywhere but this folder, and no script or style but the page's own: whatever a name holds, it is text.
POLICY = "default-src 'none'; img-src 'self' file: data:; script-src '{script}'; style-src '{style}'; base-uri 'none'"

# Joined in this order.
SCRIPTS = (
    "elements.js", "filters.js", "verdicts.js", "list.js", "histogram.js", "viewer.js", "marks.js", "set_up.js",
)  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """One image of the page.

    Args:
        path: its name for people.
        score: None where it has no result; then `error` says why.
        threshold: None where the model has none.
        verdict: "normal", "anomalous" or "unknown"; "" without a result.
        product: recognised or told, "" for none.
        calibrated: log10 N, where about 1 of N good parts of its product scores as high or higher; None where the model
            has no calibration.
        nearest: of an unknown one the product that it is most like, "" where that is not known.
        error: a sentence, or "".
        share: of its pixels that are anomalous.
        regions: left, top, right, bottom, area and peak of each, in the photo's pixels.
        photo: address of a picture that browsers can show, "" for none.
        heat: address of the map as `overlay.levels` makes it.
        original: address of the photo itself.
        small: whether it is normal only because no region of it is as large as was asked for.
        truth: address of the ground-truth mask, "" where there is none.
        defect: of a labelled image the defect's name, None for a normal one.
    """

    path: str
    score: float | None
    threshold: float | None
    verdict: str = ""
    product: str = ""
    calibrated: float | None = None
    nearest: str = ""
    error: str = ""
    share: float | None = None
    regions: Sequence[Sequence[int | float]] = field(default_factory=list)
    photo: str = ""
    heat: str = ""
    original: str = ""
    small: bool = False
    truth: str = ""
    defect: str | None = None


def report_page(
    title: str,
    subtitle: str,
    images: Sequence[Shown],
    tables: Sequence[str] = (),
    labelled: bool = False,
    share: float | None = None,
    base: Path | None = None,
) -> str:
    """The page as HTML.

    Args:
        title: its heading.
        subtitle: a sentence or two below it, after what verdicts go by.
        images: in any order.
        tables: HTML to stand above the images, escaped where it has to be.
        labelled: whether it is known which images are normal.
        share: of good parts that may be called anomalous; None where verdicts are by a score instead.
        base: folder that the images' paths begin in, which the list of verdicts names them by.
    """
    data = {
        "images": [{key: visible(v) if isinstance(v, str) else v for key, v in asdict(i).items()} for i in images],
        "labelled": labelled,
        "share": share,
        "base": visible(f"{base.resolve().as_posix().rstrip('/')}/") if base else "",
        "level": LEVEL,
        "colours": INFERNO.round().astype(int).tolist(),
    }
    data["key"] = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:16]  # a browser keeps marks under it
    return filled(
        "template.html",
        title,
        SCRIPTS,
        subtitle=escape(f"{_said_of_verdicts(images, share)} {subtitle}".strip()),
        tables="\n".join(tables),
        # In a script element only "<" could begin anything; escaped it is the same JSON.
        data=json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
    )


def filled(body: str, title: str, scripts: Sequence[str] = (), **parts: str) -> str:
    """A page of this body, whose head lets in no style or script but its own. `parts` are HTML."""
    here = files("sivt_lightning.report") / "page"
    head, rest, style, *code = (
        (here / name).read_text(encoding="utf-8") for name in ("head.html", body, "style.css", *scripts)
    )
    script = "\n".join(code)
    policy = POLICY.format(script=digest(script) if script else "none", style=digest(style))
    return Template(head + rest).substitute(policy=policy, title=escape(title), style=style, script=script, **parts)


def html_table(heading: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table of text that folds away.

    >>> html_table(["name", "AP"], [["<b>", "0.5"]], "Figures").count("&lt;b&gt;")
    1
    """
    head, *body = (
        f"<tr>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"
        for kind, cells in (("th", heading), *(("td", row) for row in rows))
    )
    table = f'<div class="wide"><table><thead>{head}</thead><tbody>{"".join(body)}</tbody></table></div>'
    return f'<details class="panel" open><summary>{escape(caption)}</summary>{table}</details>'


def address(path: str) -> str:
    """A relative path as a link, whatever bytes it is made of.

    >>> address("a b/<i>.png"), address("javascript:alert(1).png")
    ('a%20b/%3Ci%3E.png', 'javascript%3Aalert%281%29.png')
    """
    return quote(os.fsencode(path.replace(os.sep, "/")))


def _said_of_verdicts(images: Sequence[Shown], share: float | None) -> str:
    said = "A photo is anomalous where its score is above its threshold."
    if share is not None:
        said = (
            "Each photo is held against good parts of its own product: it is anomalous where fewer of them than the "
            "share below score as high."
        )
    if any(image.verdict == "unknown" for image in images):
        said += " It is unknown where it looks like none of the products: such a photo has not passed."
    return said


def digest(text: str) -> str:
    """What a page's policy knows a script or a style by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
