"""check.html: what there is to say of photos, with pictures of them, on one page that needs no other file."""

import base64
import io
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import NamedTuple

from PIL import Image

from sivt_lightning.files import visible
from sivt_lightning.report.page import POLICY, digest

QUALITY = 85


class Picture(NamedTuple):
    """A small picture and what stands below it."""

    image: Image.Image
    caption: str


class Entry(NamedTuple):
    """A sentence and what it is about."""

    sentence: str
    pictures: Sequence[Picture] = ()


class Section(NamedTuple):
    """Entries of one kind; `more` are not shown."""

    title: str
    explanation: str
    entries: Sequence[Entry]
    more: int = 0


def check_page(title: str, subtitle: str, tables: Sequence[str], sections: Sequence[Section]) -> str:
    """The page as HTML; `tables` are HTML already."""
    here = files("sivt_lightning.report") / "page"
    style = (here / "style.css").read_text(encoding="utf-8")
    return Template((here / "check.html").read_text(encoding="utf-8")).substitute(
        policy=POLICY.format(script="none", style=digest(style)),
        title=_text(title),
        subtitle=_text(subtitle),
        style=style,
        tables="\n".join(tables),
        sections="\n".join(map(_section, sections)),
    )


def _section(section: Section) -> str:
    entries = "\n".join(map(_entry, section.entries))
    more = f'<p class="faint">And {section.more} more, in the table findings.csv.</p>' if section.more else ""
    return (
        f'<details class="panel" open><summary>{_text(section.title)}</summary>'
        f'<p class="faint">{_text(section.explanation)}</p><div class="findings">{entries}</div>{more}</details>'
    )


def _entry(entry: Entry) -> str:
    pictures = "".join(map(_figure, entry.pictures))
    return f'<div class="finding"><p>{_text(entry.sentence)}</p><div class="bar">{pictures}</div></div>'


def _figure(picture: Picture) -> str:
    content = io.BytesIO()
    picture.image.save(content, "JPEG", quality=QUALITY)
    data, caption = base64.b64encode(content.getvalue()).decode(), _text(picture.caption)
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )


def _text(text: str) -> str:
    return escape(visible(text))
