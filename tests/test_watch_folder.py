"""A folder judged as it fills: each photo once, whole and in order, whatever happens to the program or the disk."""

import errno
import hashlib
import hmac
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from watched import Quick, lines, paths, picture, started, until, watching

from sivt_lightning import Predictor, SIVTError
from sivt_lightning.cli import main
from sivt_lightning.watch import waiting
from sivt_lightning.watch.arrivals import is_share
from sivt_lightning.watch.record import Record, Stamp
from sivt_lightning.watch.result_log import ResultLog
from sivt_lightning.watch.waiting import Waiting
from sivt_lightning.watch.watcher import Asked, Watcher
from sivt_lightning.watch.whole import Seen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "camera"
    place.mkdir()
    return place


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def judge_all(folder: Path, log: Path, count: int, **asked: Any) -> None:
    """A whole life of a process, which ends when the log has so many lines."""
    with watching(folder, log, **asked):
        until(lambda: len(lines(log)) >= count)


# --- once

VERDICTS = ("normal", "anomalous", "unknown")
PLACES = {"normal": "ok", "anomalous": "ng", "unknown": "unknown"}


def arrive(folder: Path, count: int, pause: float) -> None:
    """Photos as three cameras deliver them: in one piece, in two, and renamed into their place."""
    for number in range(count):
        content, path = picture(VERDICTS[number % 3]), folder / f"{number:04d}.png"
        if number % 5 == 0:
            with path.open("wb") as file:
                file.write(content[:40])
                file.flush()
                time.sleep(pause)
                file.write(content[40:])
        elif number % 5 == 1:
            path.with_suffix(".part").write_bytes(content)
            path.with_suffix(".part").rename(path)
        else:
            path.write_bytes(content)
        time.sleep(pause)


def kill_often(folder: Path, log: Path, count: int, kills: int, pause: float, **asked: Any) -> None:
    """While photos arrive, the process is killed and started again."""
    chance = random.Random(0)
    with ThreadPoolExecutor() as pool:
        arriving = pool.submit(arrive, folder, count, pause)
        for _ in range(kills):
            process = started(folder, log, **asked)
            time.sleep(chance.uniform(0, 0.6))
            process.kill()
            process.communicate()
        arriving.result()
    judge_all(folder, log, count, **asked)


@pytest.mark.parametrize(("count", "kills", "move"), [(1000, 20, True), (300, 8, False)])
def test_every_photo_has_one_line_however_often_the_process_is_killed(
    count: int, kills: int, move: bool, folder: Path, log: Path
) -> None:
    kill_often(folder, log, count, kills, 0.005, move=move)
    names = [f"{number:04d}.png" for number in range(count)]
    assert sorted(paths(log)) == names
    assert [line["verdict"] for line in sorted(lines(log), key=lambda line: line["path"])] == [
        VERDICTS[number % 3] for number in range(count)
    ]
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert found == sorted(f"{PLACES[VERDICTS[i % 3]]}/{name}" if move else name for i, name in enumerate(names))
    with watching(folder, log, move=move):
        (folder / "last.png").write_bytes(picture())
        until(lambda: "last.png" in paths(log))
    assert len(lines(log)) == count + 1


def test_a_kill_between_line_and_move_is_made_good(folder: Path, log: Path) -> None:
    (folder / "a.png").write_bytes(picture())
    found = (folder / "a.png").stat()
    record = Record(log)
    stamp = {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
    record.add({"id": "1", "path": "a.png", **stamp, "moved_to": "ok/a.png"})
    record.close()
    (folder / "b.png").write_bytes(picture("anomalous"))
    judge_all(folder, log, 2, move=True)
    assert paths(log) == ["a.png", "b.png"]
    assert (folder / "ok/a.png").exists()
    assert (folder / "ng/b.png").exists()


def test_a_line_that_the_database_does_not_know_counts_all_the_same(folder: Path, log: Path) -> None:
    """A kill between the two, or a database that somebody has removed."""
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(picture())
    judge_all(folder, log, 2)
    earlier = log.with_name("results.jsonl.db").read_bytes()
    (folder / "c.png").write_bytes(picture())
    judge_all(folder, log, 3)
    for state in (earlier, b""):
        log.with_name("results.jsonl.db").write_bytes(state)
        count = len(lines(log))
        (folder / f"after-{count}.png").write_bytes(picture())
        judge_all(folder, log, count + 1)
        assert paths(log) == ["a.png", "b.png", "c.png", "after-3.png", "after-4.png"][: count + 1]


def test_a_new_photo_of_the_same_name_is_judged(folder: Path, log: Path) -> None:
    with watching(folder, log):
        for count, verdict in enumerate(("normal", "anomalous"), start=1):
            (folder / "a.png").write_bytes(picture(verdict))
            until(lambda count=count: len(lines(log)) == count)
    assert [(line["path"], line["verdict"]) for line in lines(log)] == [("a.png", "normal"), ("a.png", "anomalous")]


def test_a_moved_photo_leaves_its_name_to_the_next_even_of_the_same_time(folder: Path, log: Path) -> None:
    with watching(folder, log, move=True):
        for count in (1, 2, 3):
            (folder / "a.new").write_bytes(picture())
            os.utime(folder / "a.new", ns=(10**18, 10**18))
            (folder / "a.new").rename(folder / "a.png")
            until(lambda count=count: len(lines(log)) == count and not (folder / "a.png").exists())
    targets = [line["moved_to"] for line in lines(log)]
    assert targets[0] == "ok/a.png"
    assert len(set(targets)) == 3
    assert all((folder / target).read_bytes() == picture() for target in targets)


def test_one_process_has_a_log(folder: Path, log: Path) -> None:
    with watching(folder, log), pytest.raises(SIVTError, match=r"Another `sivt watch` writes log .*results\.jsonl"):
        Record(log)


@pytest.mark.parametrize("torn", [b'{"id": "5', b'{"id": "5", "path": "a.png", "size": 1' + b"0" * 200_000, b"\0" * 50])
def test_a_torn_last_line_is_cut_off_and_its_photo_judged(folder: Path, log: Path, torn: bytes) -> None:
    (folder / "a.png").write_bytes(picture())
    judge_all(folder, log, 1)
    with log.open("ab") as file:
        file.write(torn)
    (folder / "b.png").write_bytes(picture())
    judge_all(folder, log, 2)
    assert paths(log) == ["a.png", "b.png"]
    assert all(json.loads(line) for line in log.read_text().splitlines())


@pytest.mark.parametrize("content", ["a shopping list", '{"what": 1}\n'])
def test_another_file_is_not_taken_for_a_log(log: Path, content: str) -> None:
    log.write_text(content)
    with pytest.raises(SIVTError, match="holds something else: name another file with --log"):
        Record(log)
    assert log.read_text() == content


# --- whole


def test_a_file_that_is_being_written_is_waited_for(folder: Path, log: Path) -> None:
    content = picture("anomalous", 64, "PNG")
    with watching(folder, log, settle=0.02):
        with (folder / "open.png").open("wb") as file:
            file.write(content)  # whole for a decoder, were it not that somebody may write on
            file.flush()
            time.sleep(0.5)
            assert lines(log) == []
        until(lambda: lines(log))
        with (folder / "slow.png").open("wb", buffering=0) as file:
            for start in range(0, len(content), 20):
                file.write(content[start : start + 20])
                time.sleep(0.05)
        until(lambda: len(lines(log)) == 2)
        for start in range(0, len(content), 40):  # as it is appended to, the file is closed again and again
            with (folder / "pieces.png").open("ab") as file:
                file.write(content[start : start + 40])
            time.sleep(0.1)
        until(lambda: len(lines(log)) == 3)
    assert [(line["path"], line["verdict"], line["size"]) for line in lines(log)] == [
        (name, "anomalous", len(content)) for name in ("open.png", "slow.png", "pieces.png")
    ]


def test_what_cannot_be_read_is_said_once_and_holds_up_nobody(folder: Path, log: Path) -> None:
    (folder / "cut.png").write_bytes(picture()[:40])
    (folder / "empty.png").touch()
    (folder / "blue.png").write_bytes(picture("blue"))
    with watching(folder, log, move=True, give_up=1.0):
        (folder / "good.png").write_bytes(picture())
        until(lambda: len(lines(log)) == 4)
    assert {*paths(log)[:2]} == {"blue.png", "good.png"}
    errors = {line["path"]: line["error"] for line in lines(log)}
    assert errors == {
        "cut.png": "The image cannot be read: it is cut off or damaged.",
        "empty.png": "The image cannot be read: it is cut off or damaged.",
        "blue.png": "The model failed on this image: no kernel for blue.",
        "good.png": None,
    }
    assert sorted(path.name for path in (folder / "unknown").iterdir()) == ["blue.png", "cut.png", "empty.png"]
    judged = [line for line in lines(log) if line["error"]]
    assert all(line["verdict"] is None and line["score"] is None for line in judged)


def test_what_is_no_photo_is_left_alone(folder: Path, log: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.png").write_bytes(picture())
    (folder / "link.png").symlink_to(tmp_path / "elsewhere.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    for name in ("ok", "ng", "unknown", "other"):
        (folder / name).mkdir()
        (folder / name / "inner.png").write_bytes(picture())
    for name in (".hidden.png", "a.png.part", "b.tmp.png", "notes.txt"):
        (folder / name).write_bytes(picture())
    names = ["-rf *.png", "new\nline.png", '"; exit.png', os.fsdecode(b"\xff.png"), r"\xff.png", "Größe.PNG"]
    for name in names:
        (folder / name).write_bytes(picture())
    with watching(folder, log, move=True, settle=0.02):
        until(lambda: len(lines(log)) == len(names))
        (folder / os.fsdecode(b"later-\xfe.png")).write_bytes(picture())
        until(lambda: len(lines(log)) == len(names) + 1)
        (folder / "last.png").write_bytes(picture())
        until(lambda: "last.png" in paths(log))
    assert sorted(paths(log)) == sorted(
        [
            "-rf *.png",
            "new\nline.png",
            '"; exit.png',
            "\\xff.png",
            "\\x5cxff.png",
            "Größe.PNG",
            "later-\\xfe.png",
            "last.png",
        ]
    )
    assert (folder / "ok" / os.fsdecode(b"\xff.png")).exists()
    assert (folder / "ok" / r"\xff.png").exists()
    assert (folder / "link.png").is_symlink()
    assert len(list((folder / "other").iterdir())) == 1


# --- in order


def test_photos_are_judged_as_they_arrived(folder: Path, log: Path) -> None:
    names = [f"{number}.png" for number in random.Random(1).sample(range(1000), 60)]
    for name in names[:30]:  # they lie there at the start
        (folder / name).write_bytes(picture())
        time.sleep(0.011)  # which is more than a tick of the disk's clock
    with watching(folder, log, seconds=0.01):
        for name in names[30:]:
            (folder / name).write_bytes(picture())
            os.utime(folder / name, ns=(10**18, 10**18))  # as a copy keeps the time of its original
            time.sleep(0.011)
        until(lambda: len(lines(log)) == 60)
    assert paths(log) == names


def test_many_may_write_at_once(folder: Path, log: Path) -> None:
    def write(writer: int) -> None:
        for number in range(20):
            (folder / f"{writer}-{number}.png").write_bytes(picture(VERDICTS[number % 3]))
            time.sleep(0.011)

    with watching(folder, log, move=True), ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
        until(lambda: len(lines(log)) == 160)
    assert len({*paths(log)}) == 160
    for writer in range(8):
        own = [path for path in paths(log) if path.startswith(f"{writer}-")]
        assert own == [f"{writer}-{number}.png" for number in range(20)]


def test_a_folder_can_be_polled(folder: Path, log: Path) -> None:
    (folder / "first.png").write_bytes(picture())
    with watching(folder, log, poll=0.05, move=True):
        until(lambda: len(lines(log)) == 1)
        for number in range(20):
            (folder / f"{number:02d}.png").write_bytes(picture())
        (folder / os.fsdecode(b"\xff.png")).write_bytes(picture())
        until(lambda: len(lines(log)) == 22)
    assert len({*paths(log)}) == 22


def test_a_folder_that_goes_and_comes_is_watched_on(folder: Path, log: Path) -> None:
    with watching(folder, log) as process:
        (folder / "a.png").write_bytes(picture())
        until(lambda: len(lines(log)) == 1)
        folder.rename(folder.with_name("away"))
        time.sleep(0.5)
        folder.with_name("away").rename(folder)
        (folder / "b.png").write_bytes(picture())
        until(lambda: len(lines(log)) == 2)
        assert process.poll() is None
    assert paths(log) == ["a.png", "b.png"]


def test_few_are_held_of_however_many_lie_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST", 10)
    held, order = Waiting(1.0, 5.0), random.Random(0).sample(range(100), 100)
    for arrived in order:
        held.see(str(arrived), Seen(Stamp(1, 1), arrived), 0.0)
        assert len(held) <= 20
    assert held.full
    first = []
    while (photo := held.next(2.0)) is not None:
        first.append(photo.seen.arrived)
        held.drop(photo.name)
    assert first == list(range(len(first)))
    assert len(first) >= 10


def test_who_settles_is_waited_for_and_who_is_written_is_not() -> None:
    held = Waiting(settle=1.0, give_up=5.0)
    held.see("late", Seen(Stamp(1, 1), 2), 0.0)
    held.see("early", Seen(Stamp(1, 1), 1), 0.5)  # told of later than it came
    assert held.next(1.2) is None
    assert held.pause(1.2, 9.0) == pytest.approx(0.3)
    early = held.next(1.6)
    assert early is not None
    assert early.name == "early"
    assert held.refuse(early, True, 1.6)
    late = held.next(1.6)
    assert late is not None
    assert late.name == "late"
    held.drop("late")
    assert held.next(1.7) is early
    assert not held.refuse(early, False, 5.5)


@pytest.mark.parametrize(
    ("place", "share"),
    [("mnt/camera", True), ("mnt/camera/inner", True), ("mnt/camera/disk", False), ("home", False), ("mnt/a b", True)],
)
def test_network_shares_are_polled(place: str, share: bool, tmp_path: Path) -> None:
    top = str(tmp_path)
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/vda / ext4 rw 0 0\n//nas/b {top}/mnt/a\\040b nfs4 rw 0 0\n/dev/b {top}/mnt/camera/disk xfs rw 0 0\n"
        f"//nas/a {top}/mnt/camera cifs rw 0 0\n"
    )
    assert is_share(tmp_path / place, mounts) == share
    assert not is_share(tmp_path / place, tmp_path / "no such file")


# --- the disk


@pytest.mark.parametrize("kind", ["nothing", "a piece"])
def test_a_full_disk_ends_it_with_a_sentence_and_loses_nothing(
    kind: str, folder: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(picture())

    def full(file: int, content: bytes) -> int:
        if b'"b.png"' not in content:
            return write(file, content)
        if kind == "nothing":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, content[:20])

    record = Record(log)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        watcher = Watcher(folder, Quick(), record, Asked(settle=0.0, move=True))
        with pytest.raises(SIVTError, match=r"log .* cannot be written: No space left on device\. Make room and start"):
            watcher.run()
    watcher.end()
    record.close()
    assert paths(log) == ["a.png"]
    assert log.read_bytes().endswith(b"\n")
    assert (folder / "b.png").exists()
    judge_all(folder, log, 2, move=True)
    assert paths(log) == ["a.png", "b.png"]


def test_a_damaged_database_is_named(log: Path) -> None:
    log.with_name("results.jsonl.db").write_bytes(b"what is this?" * 1000)
    with pytest.raises(SIVTError, match=r"results.jsonl.db is damaged .*: remove it. It is made anew from the log"):
        Record(log)


def test_a_line_of_another_kind_is_named(log: Path) -> None:
    log.write_text('{"id": "1"}\n')
    with pytest.raises(SIVTError, match="has a line, before byte 12, that is none of sivt watch"):
        Record(log)


def test_a_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SIVTError, match=r"cannot be written: Is a directory\. Name another with --log"):
        ResultLog(tmp_path)


# --- the webhook


class Receiver:
    """Takes lines; `answers` are the first statuses it gives, then 200."""

    def __init__(self, *answers: int) -> None:
        self.answers, self.taken, self.asked = [*answers], list[tuple[dict[str, str], bytes]](), 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.asked += 1
                status = receiver.answers.pop(0) if receiver.answers else 200
                if status == 200:
                    receiver.taken.append((dict(self.headers), body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/verdicts"

    def names(self) -> list[str]:
        return [json.loads(body)["path"] for _, body in self.taken]


@contextmanager
def receiving(*answers: int) -> Iterator[Receiver]:
    receiver = Receiver(*answers)
    thread = threading.Thread(target=receiver.server.serve_forever)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    thread.join()
    receiver.server.server_close()


def test_the_webhook_gets_each_line_signed(folder: Path, log: Path) -> None:
    with receiving() as receiver, watching(folder, log, url=receiver.url):
        for name in ("a.png", "b.png"):
            (folder / name).write_bytes(picture())
        until(lambda: len(receiver.taken) == 2)
    assert [body for _, body in receiver.taken] == log.read_bytes().splitlines()
    for headers, body in receiver.taken:
        signed = headers["X-Sivt-Timestamp"].encode() + b"." + body
        mac = hmac.new(b"a-secret-of-the-line", signed, hashlib.sha256).hexdigest()
        assert headers["X-Sivt-Signature"] == f"sha256={mac}"
        assert headers["X-Sivt-Id"] == json.loads(body)["id"]
        assert abs(time.time() - int(headers["X-Sivt-Timestamp"])) < 60


def test_the_webhook_is_tried_again_and_one_refused_line_holds_up_nobody(folder: Path, log: Path) -> None:
    (folder / "a.png").write_bytes(picture())
    with receiving(500, 429, 422) as receiver:
        process = started(folder, log, url=receiver.url)
        until(lambda: lines(log))
        (folder / "b.png").write_bytes(picture())
        until(lambda: len(receiver.taken) == 1)
        process.terminate()
        said = process.communicate()[1]
    assert receiver.names() == ["b.png"], "the line of a.png was refused as such"
    assert "answered 500. It is tried again" in said
    assert f"answered 422. This line is left out: {lines(log)[0]['id']}" in said
    assert receiver.asked == 4


def test_the_queue_outlives_kills_and_is_bounded(folder: Path, log: Path) -> None:
    with receiving() as receiver:
        url = receiver.url
    for number in range(8):
        (folder / f"{number}.png").write_bytes(picture())
        time.sleep(0.011)
    process = started(folder, log, url=url, queue=5)  # where nobody listens, and judging goes on
    until(lambda: len(lines(log)) == 8)
    time.sleep(1.0)  # in which the webhook is tried, at least once
    process.kill()
    said = process.communicate()[1]
    assert "lines were left out, the oldest: more than 5 wait" in said
    assert "cannot be reached" in said
    with receiving() as receiver, watching(folder, log, url=receiver.url, queue=5):
        until(lambda: len(receiver.taken) == 5)
        (folder / "new.png").write_bytes(picture())
        until(lambda: len(receiver.taken) == 6)
    assert receiver.names() == ["3.png", "4.png", "5.png", "6.png", "7.png", "new.png"]


def test_a_line_that_a_kill_kept_from_the_queue_is_entered_at_the_start(log: Path) -> None:
    told = [{"id": str(i), "path": f"{i}.png", "size": 1, "mtime_ns": 1, "moved_to": None} for i in range(4)]
    record = Record(log, 2)
    for line in told[:2]:
        record.add(line)
    for line in told[2:]:
        record.log.append(line)
    record.close()
    record = Record(log, 2)
    kept = []
    while (queued := record.first_queued()) is not None:
        kept.append(queued.id)
        record.sent(queued)
    record.close()
    assert kept == ["2", "3"]


# --- the command


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--webhook", "ftp://line"], "webhook ftp://line is no address"),
        (["--webhook", "http://line.example"], "put a secret into the environment variable SIVT_WEBHOOK_SECRET"),
        (
            ["--webhook", "http://line.example", "--webhook_secret_file", "none"],
            "webhook_secret_file none cannot be read",
        ),
        (["--settle", "-1"], "settle is -1.0: give seconds, 0 or more"),
        (["--poll", "0"], "poll is 0.0: give seconds"),
        (["--webhook_queue", "0"], "webhook_queue is 0: give 1 or more"),
        (["--folder", "nowhere"], "folder nowhere is no folder"),
        ([], "no-such-model.ckpt"),
    ],
)
def test_what_cannot_be_is_said(
    options: list[str],
    sentence: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.delenv("SIVT_WEBHOOK_SECRET", raising=False)
    given = ["watch", "--model", "no-such-model.ckpt", "--folder", "camera", "--log", "log.jsonl"]
    assert main([*given, *options]) == 1
    assert sentence in re.sub(r"\s+", " ", capsys.readouterr().err)


def test_the_command_says_what_the_predictor_says(checkpoint: Path, tiny_data: Path, folder: Path, log: Path) -> None:
    predictor = Predictor(checkpoint, device="cpu")
    photos = sorted(tiny_data.glob("*/test/*/*.png"))[:6]
    options = ["--model", str(checkpoint), "--folder", str(folder), "--log", str(log), "--device", "cpu", "--move"]
    command = [sys.executable, "-m", "sivt_lightning", "watch", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == f"Watching {folder} with {checkpoint}, results in {log}. Ctrl-C ends it.\n"
    for number, photo in enumerate(photos):
        (folder / f"{number}.png").write_bytes(photo.read_bytes())
    until(lambda: len(lines(log)) == len(photos))
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 0
    assert said.startswith("Ended. Judged: ")
    for line in lines(log):
        right = predictor(photos[int(line["path"][0])])
        assert line["score"] == pytest.approx(right.score)
        assert (line["verdict"], line["product"], line["threshold"]) == (right.verdict, right.product, right.threshold)
        assert [tuple(region["box"]) for region in line["regions"]] == [region.box for region in right.regions]
        assert (folder / line["moved_to"]).exists()
        assert line["error"] is None
