"""What a server keeps of parts: the last ones, those that people have marked, and counts; whatever happens to it."""

import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sivt_lightning.data.folders import PARTS
from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.marked_photos import read_marked
from sivt_lightning.state.kept_parts import KEPT, KeptParts
from sivt_lightning.state.part import Count, Part, now
from sivt_lightning.state.reading import marked_parts

FOLDERS = ("maps", "photos", "thumbnails")


def part(verdict: str = "normal", product: str | None = "gear", **other: Any) -> Part:
    said = {"name": "a.png", "score": 1.5, "threshold": 2.0, "calibrated": 0.3, "suffix": "png"}
    return Part(id=uuid4().hex, time=now(), product=product, verdict=verdict, model="m", **said | other)


def add(kept: KeptParts, one: Part, photo: bytes = b"photo") -> Part:
    kept.add(one, (photo, b"map", b"thumbnail"), Counter([Count.at(one.time, one.product, one.verdict)]))
    return one


def files(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for part in FOLDERS for file in (folder / part).iterdir()}


def test_the_last_parts_and_marked_ones_are_kept_and_counts_of_all(tmp_path: Path) -> None:
    kept = KeptParts(tmp_path)
    first, second = add(kept, part()), add(kept, part("anomalous"))
    kept.mark(second.id, "good", "Ana")
    for _ in range(KEPT + 3):
        add(kept, part("unknown", None))
    parts = kept.parts(1000)
    assert len(parts) == KEPT + 1
    assert parts[-1].id == second.id
    assert parts[-1].mark is not None
    assert (parts[-1].mark.says, parts[-1].mark.who) == ("good", "Ana")
    assert replace(parts[-1], mark=None) == second, "all that was told of it"
    assert kept.part(first.id) is None
    assert len(files(tmp_path)) == 3 * (KEPT + 1)
    assert kept.photo(second).read_bytes() == b"photo"
    assert kept.map(second).read_bytes() == b"map"
    assert kept.thumbnail(second).read_bytes() == b"thumbnail"
    counted = {(count.product, count.verdict): parts for count, parts in kept.counts()}
    assert counted == {("gear", "normal"): 1, ("gear", "anomalous"): 1, (None, "unknown"): KEPT + 3}
    kept.mark(second.id, None, "Ben")
    assert len(files(tmp_path)) == 3 * KEPT
    kept.close()
    assert [one.id for one in KeptParts(tmp_path).parts(1)] == [parts[0].id]


def history(folder: Path) -> list[tuple]:
    return sqlite3.connect(folder / PARTS).execute("SELECT part, says, who FROM marks ORDER BY number").fetchall()


def test_what_two_people_say_at_once_is_in_the_history_and_the_last_counts(tmp_path: Path) -> None:
    """Through two servers that share the folder."""
    both = [KeptParts(tmp_path), KeptParts(tmp_path)]
    one = add(both[0], part())
    start = threading.Barrier(2)

    def say(number: int) -> None:
        start.wait()
        for turn in range(20):
            both[number].mark(one.id, ("good", "defect")[turn % 2], f"{'AB'[number]}{turn}")

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(say, (0, 1)))
    said = history(tmp_path)
    assert sorted(who for _, _, who in said) == sorted(f"{who}{turn}" for who in "AB" for turn in range(20))
    for kept in both:
        found = kept.part(one.id)
        assert found is not None
        assert found.mark is not None
        assert (found.id, found.mark.says, found.mark.who) == said[-1]
    assert both[0].mark(one.id, None, "C").mark is None  # type: ignore[union-attr]
    both[0].mark(one.id, None, "D")
    assert history(tmp_path)[-1] == (one.id, None, "C"), "what is not marked cannot be taken back"
    assert both[0].mark("0" * 32, "good", "C") is None


def test_names_and_people_are_data(tmp_path: Path) -> None:
    kept = KeptParts(tmp_path / "a b#c?d%20")
    strange = "../../x'; DROP TABLE parts;--\0\n\u202e.png"
    one = add(kept, part(name=strange))
    kept.mark(one.id, "defect", strange)
    found = kept.part(one.id)
    assert found is not None
    assert found.mark is not None
    assert (found.name, found.mark.who) == (strange, strange)
    assert kept.part("../../etc/passwd") is None
    assert files(kept.folder) == {f"photos/{one.id}.png", f"maps/{one.id}.png", f"thumbnails/{one.id}.jpg"}


def test_a_part_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptParts(tmp_path)
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        written = write(path, content[:1])
        if path.parent.name == "thumbnails":  # the last one
            raise OSError(28, "No space left on device")
        return written

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(SIVTError, match=r"Cannot write into .*: No space left on device\. Make room"):
            add(kept, part())
    assert (kept.parts(9), kept.counts(), files(tmp_path)) == ([], [], set())
    add(kept, part())
    assert len(kept.parts(9)) == 1


def test_files_that_a_kill_has_left_go_at_the_next_start_and_others_stay(tmp_path: Path) -> None:
    kept = KeptParts(tmp_path)
    add(kept, part())
    before = files(tmp_path)
    (tmp_path / "photos" / f"{uuid4().hex}.png").touch()
    (tmp_path / "thumbnails" / f"{uuid4().hex}.jpg").touch()
    (tmp_path / "photos" / "mine.png").touch()
    KeptParts(tmp_path)
    assert files(tmp_path) == before | {"photos/mine.png"}


def foreign(file: Path) -> None:
    sqlite3.connect(file).execute("CREATE TABLE notes (text)")


def newer(file: Path) -> None:
    KeptParts(file.parent).close()
    sqlite3.connect(file).execute("PRAGMA user_version = 9")


def cut(file: Path) -> None:
    kept = KeptParts(file.parent)
    for _ in range(20):
        add(kept, part())
    kept.close()
    file.write_bytes(file.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.write_bytes(b"no database" * 1000), r"is damaged \(file is not a database\)\. Move it away"),
        (cut, "is damaged"),
        (foreign, "is another program's. Name another folder with --state"),
        (newer, r"newer version of sivt_lightning \(format 9, this one knows 1\)"),
    ],
)
def test_a_database_that_is_damaged_or_not_ours_is_one_sentence(spoil: Any, said: str, tmp_path: Path) -> None:
    spoil(tmp_path / PARTS)
    with pytest.raises(SIVTError, match=said) as opened:
        KeptParts(tmp_path)
    assert "\n" not in str(opened.value)
    with pytest.raises(SIVTError, match=said):
        marked_parts(tmp_path)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SIVTError, match=r"Cannot write into .*file: .*\. Name another folder with --state\."):
        KeptParts(tmp_path / "file")
    with pytest.raises(SIVTError, match=r"is no --state of `sivt serve`: it has no parts\.sqlite"):
        marked_parts(tmp_path)


def test_marks_are_read_while_a_server_writes_and_after_it(tmp_path: Path) -> None:
    kept = KeptParts(tmp_path)
    said = [
        (part("anomalous"), "good"),
        (part("normal"), "good"),
        (part("anomalous"), "defect"),
        (part("unknown", None), "good"),
        (part("unknown", None), "defect"),
        (part("anomalous"), "defect"),
    ]
    for one, says in said:
        add(kept, one)
        kept.mark(one.id, says, "Ana")  # type: ignore[arg-type]
    add(kept, part())
    kept.photo(said[-1][0]).unlink()
    for _ in range(2):
        marked = read_marked(tmp_path)
        photos = [kept.photo(one) for one, _ in said]
        assert [(sample.path, sample.category) for sample in marked.good] == [
            (photos[number], "gear") for number in (0, 1)
        ]
        assert marked.defects == {"gear": [photos[2]], None: [photos[4]]}
        assert marked.false_alarms == {"gear": 1}
        assert [sentence[:1] for sentence in marked.left_out] == ["1", "1"]
        assert {sample.category for sample in read_marked(tmp_path, "bolt").good} == {"bolt"}
        kept.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([PARTS, *FOLDERS]), "reading leaves nothing"


def test_nothing_marked_is_a_sentence(tmp_path: Path) -> None:
    add(KeptParts(tmp_path), part())
    with pytest.raises(SIVTError, match=r"has no photo that is marked\. Mark some on the page of `sivt serve`"):
        read_marked(tmp_path)
