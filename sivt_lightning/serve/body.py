"""The ways in which an image is sent: as it is, in a form, in JSON. All are read in pieces into memory."""

import binascii
import io
import logging

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from sivt_lightning.serve.messages import Refusal

AROUND = 10_000  # bytes of a form or of JSON that are not the image's
PARTS = 10  # of JSON, where two are needed
BLANKS = b"\r\n "
FORM, JSON = "multipart/form-data", "application/json"
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # what is wrong with a form is said to its sender


def body_of(content_type: str) -> "Body":
    """By the request's header; whatever is neither a form nor JSON is the file itself. Raises Refusal."""
    kind, options = parse_options_header(content_type)
    if kind == FORM.encode():
        return Form(options.get(b"boundary", b""))
    return Encoded() if kind == JSON.encode() else Body()


class Body:
    """Of a request, while it comes: the image's file as it is."""

    copies = 1  # of it that are held at most
    name: str | None = None  # of the file, where it is told

    def __init__(self) -> None:
        self.content = io.BytesIO()

    def most(self, limit: int) -> int:
        """Bytes of a body that brings a file of `limit` bytes."""
        return limit

    def expect(self, size: int) -> None:
        """Makes room for so many bytes: what grows takes more."""
        self.content = io.BytesIO(bytes(size))

    def add(self, part: bytes) -> None:
        """The next piece. Raises Refusal."""
        self.content.write(part)

    def file(self) -> bytes:
        """The image's file, once all has come. Raises Refusal."""
        self.content.truncate()
        return self.content.getvalue()


class Form(Body):
    """One file in a form, as `curl -F file=@photo.png` sends it; the part's name does not matter."""

    def __init__(self, boundary: bytes) -> None:
        super().__init__()
        self.parts, self.ended = 0, False
        self.header, self.value, self.disposition = b"", b"", b""
        callbacks = {
            "on_part_begin": self._part,
            "on_header_field": self._header,
            "on_header_value": self._value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers,
            "on_part_data": self._data,
            "on_end": self._end,
        }
        try:
            self.parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError as error:
            raise self._damaged() from error

    def most(self, limit: int) -> int:
        return limit + AROUND

    def add(self, part: bytes) -> None:
        try:
            self.parser.write(part)
        except FormParserError as error:
            raise self._damaged() from error

    def file(self) -> bytes:
        if not self.ended:
            raise self._damaged()
        if not self.parts:
            raise Refusal(400, "The form is empty. Send the image's file in it: curl -F file=@photo.png.")
        return super().file()

    def _damaged(self) -> Refusal:
        reason = "it is cut off, or not parted by the boundary that its Content-Type names"
        return Refusal(400, f"The form cannot be read: {reason}. Send it as curl -F file=@photo.png does.")

    def _part(self) -> None:
        self.parts += 1
        if self.parts > 1:
            raise Refusal(400, "The form has several parts. Send one, the image's file, and a request for each image.")

    def _header(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def _value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def _header_end(self) -> None:
        if self.header.lower() == b"content-disposition":
            self.disposition = self.value
        self.header, self.value = b"", b""

    def _headers(self) -> None:
        name = parse_options_header(self.disposition)[1].get(b"filename")
        if name is None:
            raise Refusal(400, "The form holds a value, but no file. Send one: curl -F file=@photo.png.")
        self.name = name.decode("utf-8", "replace") or None

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.content.write(data[start:end])

    def _end(self) -> None:
        self.ended = True


class Base64Image(BaseModel):
    """An image in JSON."""

    model_config = ConfigDict(extra="forbid")
    image: bytes = Field(description="The image's file in base64, or a data: URL of it.")


class Encoded(Body):
    """A file in JSON, as `Base64Image` has it."""

    copies = 3  # the body, the text in it, and that without its head or its ends of lines

    def most(self, limit: int) -> int:
        return 4 * limit // 3 + AROUND

    def file(self) -> bytes:
        text = self._text()
        if text.startswith(b"data:"):
            head, _, text = text.partition(b",")
            if not head.endswith(b";base64"):
                raise Refusal(400, "The JSON's data: URL is not in base64. Send data:image/png;base64, and the file.")
        if any(blank in text for blank in BLANKS):
            text = text.translate(None, BLANKS)
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except ValueError as error:
            raise Refusal(400, "The JSON's image is not in base64. Encode the file's bytes.") from error

    def _text(self) -> bytes:
        content = super().file()
        remedy = 'Send {"image": "the file in base64"}.'
        if sum(map(content.count, (b",", b"[", b"{"))) > PARTS:  # each would become an object before it is looked at
            raise Refusal(400, f"The JSON cannot be taken: it has too many parts. {remedy}")
        try:
            return Base64Image.model_validate_json(content).image
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = "".join(f"{part}: " for part in first["loc"])[:40]
            raise Refusal(400, f"The JSON cannot be taken: {place}{first['msg']}. {remedy}") from error
