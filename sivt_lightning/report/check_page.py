"""check.html: what there is to say of photos, with pictures of them, on one page that needs no other file."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from PIL import Image

from sivt_lightning.report.page import filled

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
    said = "\n".join(map(_section, sections))
    return filled("check.html", title, subtitle=escape(subtitle), tables="\n".join(tables), sections=said)


def _section(section: Section) -> str:
    entries = "\n".join(map(_entry, section.entries))
    more = f'<p class="faint">And {section.more} more, in the table findings.csv.</p>' if section.more else ""
    return (
        f'<details class="panel" open><summary>{escape(section.title)}</summary>'
        f'<p class="faint">{escape(section.explanation)}</p><div class="findings">{entries}</div>{more}</details>'
    )


def _entry(entry: Entry) -> str:
    pictures = "".join(map(_figure, entry.pictures))
    return f'<div class="finding"><p>{escape(entry.sentence)}</p><div class="bar">{pictures}</div></div>'


def _figure(picture: Picture) -> str:
    content = io.BytesIO()
    picture.image.save(content, "JPEG", quality=QUALITY)
    data, caption = base64.b64encode(content.getvalue()).decode(), escape(picture.caption)
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )
