"""The page at /: photos judged by hand, and what the server knows of the last parts."""

import json
from importlib.resources import files
from string import Template

import numpy as np
from fastapi.responses import HTMLResponse

from sivt_lightning.report.overlay import inferno
from sivt_lightning.report.page import digest

# After two of report.html's.
SCRIPTS = ("asking.js", "part.js", "judging.js", "thumbnails.js", "parts.js", "figures.js", "start.js")
SHADES = 16  # from nothing to the pixel threshold, which has the colour that it has in report.html; as many to twice it
POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def front_page(asks_token: bool, keeps_parts: bool) -> HTMLResponse:
    """The page, which holds no data: its script asks for them, with a token that a person types where one is asked for.

    Nothing on it comes from elsewhere, and its policy lets in no script or style but its own.
    """
    shared, own = files("sivt_lightning.report") / "page", files("sivt_lightning.serve") / "page"
    style = "".join(file.read_text(encoding="utf-8") for file in (shared / "style.css", own / "look.css"))
    code = [shared / "elements.js", shared / "filters.js", *(own / name for name in SCRIPTS)]
    script = "\n".join(file.read_text(encoding="utf-8") for file in code)
    level = np.linspace(0, 1, 2 * SHADES + 1, dtype=np.float32)
    colours = inferno(np.interp(level, (0, 0.5, 1), (0, 1 / 3, 1)).astype(np.float32)).round().astype(int).tolist()
    data = json.dumps({"token": asks_token, "keeps": keeps_parts, "colours": colours})
    html = Template((own / "page.html").read_text(encoding="utf-8")).substitute(style=style, script=script, data=data)
    headers = {
        "Content-Security-Policy": POLICY.format(script=digest(script), style=digest(style)),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "camera=(self)",
        "Cache-Control": "no-cache",
    }
    return HTMLResponse(html, headers=headers)
