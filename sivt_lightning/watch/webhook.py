"""Each line of the log to a program elsewhere, signed, from a queue on the disk and in a thread of its own."""

import hashlib
import hmac
import time
from threading import Event, Thread
from urllib.parse import urlsplit

import httpx

from sivt_lightning.errors import SIVTError
from sivt_lightning.watch.notices import say
from sivt_lightning.watch.record import Queued, Record

TIMEOUT = 5.0  # seconds to connect, and between two bytes
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds until it is tried again
# What is wrong with this line alone: to send it again would change nothing, and hold up the others.
REFUSED = (400, 405, 406, 409, 410, 411, 413, 414, 415, 422)
LAST = 2.0  # seconds for what is being sent when the watching ends
TELL_AGAIN = 60.0  # seconds between two complaints about a full queue


def check_url(url: str) -> None:
    """Raises SIVTError for what is no address on the web."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise SIVTError(f"webhook {url} is no address: give one such as https://line.example/verdicts.")


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What the receiver computes, too, to know who has sent a body, and when.

    >>> signature("a-secret-of-the-line", "1700000000", b"{}")[:23]
    'sha256=6bd96340f730268f'
    """
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={mac.hexdigest()}"


class Webhook:
    """Sends what is queued in a record, in order, each line until the receiver has taken it.

    A receiver that cannot be reached, or answers with another status than 2xx, is tried again after pauses that double
    from half a second to a minute, also after a restart. So it may get a line twice, with the same `X-Sivt-Id`. One
    line that it refuses as such (a status such as 400 or 422) is left out.
    """

    def __init__(self, record: Record, url: str, secret: str) -> None:
        self.record, self.url, self.secret = record, url, secret
        self.more, self.ended = Event(), Event()
        self.thread = Thread(target=self._run, name="webhook", daemon=True)
        self.told, self.told_at = 0, 0.0
        self.gone = False  # whether the record may be closed

    def start(self) -> None:
        self.thread.start()

    def ring(self) -> None:
        """There is something to be sent."""
        self.more.set()
        if self.record.left_out > self.told and (not self.told or time.monotonic() - self.told_at > TELL_AGAIN):
            self.told, self.told_at = self.record.left_out, time.monotonic()
            say(f"webhook: {self.told} lines were left out, the oldest: more than {self.record.most_queued} wait.")

    def end(self) -> None:
        """What is not sent waits in the queue for the next start."""
        self.ended.set()
        self.more.set()
        self.thread.join(LAST)
        self.gone = True

    def _run(self) -> None:
        pause = 0.0
        with httpx.Client(timeout=TIMEOUT) as client:
            while not self.ended.wait(pause):
                self.more.clear()
                try:
                    pause = self._deliver(client, pause)
                except SIVTError as error:  # a full disk, of which the judging will speak, too
                    say(f"webhook: {error}")
                    pause = LONGEST_PAUSE

    def _deliver(self, client: httpx.Client, pause: float) -> float:
        """The first line of the queue, or waits for one; seconds until the next, after so many before this."""
        queued = self.record.first_queued()
        if queued is None:
            self.more.wait()
            return 0.0
        problem, final = self._send(client, queued)
        if not final:
            if not pause:
                say(f"webhook: {problem} It is tried again; lines wait in {self.record.file}.")
            return min(2 * pause or FIRST_PAUSE, LONGEST_PAUSE)
        if problem:
            say(f"webhook: {problem} This line is left out: {queued.id}. The log has it.")
        elif pause:
            say(f"webhook: {self.url} takes lines again.")
        if not self.gone:
            self.record.sent(queued)
        return 0.0

    def _send(self, client: httpx.Client, queued: Queued) -> tuple[str, bool]:
        """What went wrong, if anything, and whether the line is done with."""
        body, timestamp = queued.line.encode(), str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Sivt-Id": queued.id,
            "X-Sivt-Timestamp": timestamp,
            "X-Sivt-Signature": signature(self.secret, timestamp, body),
        }
        try:
            answer = client.post(self.url, content=body, headers=headers)
        except httpx.HTTPError as error:
            return f"{self.url} cannot be reached ({type(error).__name__}).", False
        if answer.is_success:
            return "", True
        return f"{self.url} answered {answer.status_code}.", answer.status_code in REFUSED
