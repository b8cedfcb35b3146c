"""What a person names: a local path, or a URL or archive that photos lie behind."""

import os
import re
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from urllib.parse import quote

from sivt_lightning.data.remote import URL, RemotePath
from sivt_lightning.errors import SIVTError

# Schemes, and of those that need one: the package, and the extra of ours that brings it.
SCHEMES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "memory": ("", ""), "zip": ("", "")}
PASSWORD = re.compile(r"[^/@:]*:[^/@]*@")
WAYS = "photos are read from folders, from ARCHIVE.zip, s3://BUCKET/FOLDER, gs://BUCKET/FOLDER and zip://FOLDER::URL"


def is_url(text: str) -> bool:
    r"""Whether it is meant for no local path.

    >>> [is_url(text) for text in ("s3://bucket/a", r"C:\photos", "C://photos", "lot:1/a", "photos")]
    [True, False, False, False, False]
    """
    return URL.match(text) is not None


def path_of(text: str) -> Path:
    """What a person has named: a local path, or one that lies behind a URL or in a ZIP archive.

    Raises SIVTError for a URL of another scheme, with a password, or whose package is not installed.
    """
    found = URL.match(text)
    if found is None:
        return in_archive(Path(text).expanduser())
    scheme, rest = found[1].lower(), text[found.end() :]
    scheme = {"gcs": "gs"}.get(scheme, scheme)
    inside, _, archive = rest.partition("::") if scheme == "zip" else (rest, "", "")
    _refuse_password(scheme, archive if scheme == "zip" else inside)
    if scheme not in SCHEMES:
        raise SIVTError(f"A path begins with {scheme}://, but {WAYS}. Bring them to one of these.")
    if scheme == "zip" and not archive:
        raise SIVTError(f"{text} names no archive. Write it as zip://FOLDER::ARCHIVE.zip.")
    if scheme in ("s3", "gs") and not inside.strip("/"):
        raise SIVTError(f"{text} names no bucket. Write it as {scheme}://BUCKET/FOLDER.")
    _refuse_missing_package(text, scheme)
    return _remote(scheme, inside, _archive_of(text, archive) if archive else "")


def in_archive(path: Path) -> Path:
    """The path; where it leads into a ZIP archive, into that."""
    if ".zip" in str(path).lower():
        for place in (path, *path.parents):
            if place.suffix.lower() == ".zip" and place.is_file():
                return _remote("zip", path.relative_to(place).as_posix(), str(place.resolve()))
    return path


def common_folder(*folders: Path) -> Path:
    """The closest folder that all of them are or lie below.

    Raises SIVTError where some are local and others are not.
    """
    remote = [folder for folder in folders if isinstance(folder, RemotePath)]
    if not remote:
        return Path(os.path.commonpath(folders))
    if local := next((folder for folder in folders if not isinstance(folder, RemotePath)), None):
        raise SIVTError(f"{remote[0]} and {local} lie in no common folder. Bring the photos to one place.")
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*(folder.parts for folder in remote), strict=False))
    return RemotePath(*(parts[0] for parts in shared))


def _archive_of(text: str, archive: str) -> str:
    archive = archive.removeprefix("file://")
    found = URL.match(archive)
    if found is None:
        return str(Path(archive).expanduser().resolve())
    if found[1].lower() == "zip":
        raise SIVTError(f"{text} is an archive in an archive. Unpack the outer one.")
    return str(path_of(archive))


def _remote(scheme: str, inside: str, archive: str = "") -> RemotePath:
    site = f"{scheme}:{quote(archive, safe='', errors='surrogateescape')}"
    return RemotePath("/", site, inside.lstrip("/")).resolve()


def _refuse_password(scheme: str, rest: str) -> None:
    rest = rest[found.end() :] if (found := URL.match(rest)) else rest
    if scheme != "memory" and PASSWORD.match(rest):
        raise SIVTError(
            f"A path {scheme}://... holds a user name and a password, which would be shown and kept with the model: "
            "take them out, and give them in the environment or the configuration file of the store's own package."
        )


def _refuse_missing_package(text: str, scheme: str) -> None:
    package, extra = SCHEMES[scheme]
    if package and find_spec(package) is None:
        raise SIVTError(f"{text} is read through {package}: pip install 'sivt-lightning[{extra}]' brings it.")
