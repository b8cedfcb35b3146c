"""Photos that lie in a bucket or an archive: a path for them, through fsspec.

Nothing but a URL that was given opens a connection, and what is only local never loads fsspec. Nothing is written
there, and credentials come from where fsspec's packages look for them: environment and configuration files.
"""

import contextlib
import errno
import io
import os
import posixpath
import re
import stat
import sys
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

from sivt_lightning.errors import SIVTError, first_line

if sys.platform == "win32":
    from pathlib import WindowsPath as LocalPath
else:
    from pathlib import PosixPath as LocalPath

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # two letters or more: one is a drive
FIRST = 65_536  # bytes that are read at first: most headers
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")
# What stores say of a file's content without giving it: S3 and GCS, archives.
VERSIONS = ("ETag", "etag", "md5Hash", "CRC")
TIMES = ("LastModified", "updated", "mtime", "created")


class Unreachable(SIVTError):
    """A store that gave no answer, or refused one."""

    def __init__(self, path: Path, error: Exception) -> None:
        self.reason, self.remedy = _explained(error)
        super().__init__(f"{path} cannot be read: {self.reason}. {self.remedy}")


class RemotePath(LocalPath):
    """A path to what lies behind a URL, to be read; shown as the URL.

    Inside it is /SITE/folders/file, where SITE is the scheme and, of an archive, where that lies. So names, parents and
    order are pathlib's, the same as those of local folders.

    >>> photo = RemotePath("/memory:/photos/bolt/1.png")
    >>> str(photo), photo.name, photo.relative_to(RemotePath("/memory:/photos")).as_posix()
    ('memory://photos/bolt/1.png', '1.png', 'bolt/1.png')
    """

    __slots__ = ()

    def __str__(self) -> str:
        if not self.root or len(self.parts) < 2:
            return self.as_posix()
        scheme, archive = self._site()
        if archive and not URL.match(archive):
            return "/".join((archive, *self.parts[2:]))
        return f"{scheme}://{self._inside()}{f'::{archive}' if archive else ''}"

    def as_posix(self) -> str:
        """By this photos are put in order: as shown, but of an archive behind a URL, which ends in the archive's."""
        if self.root and len(self.parts) > 1 and "::" not in (shown := str(self)):
            return shown
        return "/" + "/".join(self.parts[1:]) if self.root else "/".join(self.parts) or "."

    def __fspath__(self) -> NoReturn:
        """What asks for this would take it for a local file."""
        raise TypeError(f"{self} is no local file")

    @property
    def name(self) -> str:
        """The last part; of an archive as a whole its name without suffix."""
        if not self.root or len(self.parts) != 2:
            return super().name
        scheme, archive = self._site()
        return posixpath.basename(archive.replace(os.sep, "/")).rpartition(".")[0] or scheme

    def absolute(self) -> "RemotePath":
        return self

    def resolve(self, strict: bool = False) -> "RemotePath":
        """Without `..`; there are no links."""
        if ".." not in self.parts:
            return self
        return type(self)("/", self.parts[1], posixpath.normpath(f"/{self._inside()}").lstrip("/"))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Kind and size. Raises FileNotFoundError where there is nothing, and Unreachable."""
        known = self._info()
        kind = stat.S_IFDIR if known["type"] == "directory" else stat.S_IFREG
        return os.stat_result((kind, 0, 0, 0, 0, 0, known.get("size") or 0, 0, 0, 0))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self._kind() != ""

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._kind() == "directory"

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._kind() == "file"

    def is_symlink(self) -> bool:
        return False

    def listed(self) -> dict["RemotePath", dict[str, Any]]:
        """What lies in the folder, with what the store tells of it. Raises FileNotFoundError and Unreachable."""
        with self._told():
            found = self._store().ls(self._inside(), detail=True, refresh=True)
        named = ((entry["name"].rstrip("/"), entry) for entry in found)
        own = self._inside()  # some stores list the folder itself, too
        return {self / name.rpartition("/")[2]: entry for name, entry in named if name.strip("/") != own}

    def open(self, mode: str = "r", *_: Any, encoding: str | None = None, **__: Any) -> Any:
        """For reading only. Raises FileNotFoundError and Unreachable, also while it is read."""
        if set(mode) - set("rbt"):
            raise SIVTError(f"{self} cannot be written: photos are only read there. Name a local folder.")
        file = io.BufferedReader(_Content(self), FIRST)
        return file if "b" in mode else io.TextIOWrapper(file, encoding or "utf-8")

    def content(self, end: int | None = None) -> bytes:
        """All bytes, or the first ones. Raises FileNotFoundError and Unreachable."""
        with self._told():
            return self._store().cat_file(self._inside(), start=0 if end else None, end=end)

    def _info(self) -> dict[str, Any]:
        """What the store tells of it. Raises FileNotFoundError and Unreachable."""
        with self._told():
            return self._store().info(self._inside())

    def _kind(self) -> str:
        try:
            return str(self._info()["type"])
        except FileNotFoundError:
            return ""

    def _site(self) -> tuple[str, str]:
        """(scheme, archive or "")."""
        scheme, _, archive = self.parts[1].partition(":")
        return scheme, unquote(archive, errors="surrogateescape")

    def _inside(self) -> str:
        """The path as its store has it."""
        return "/".join(self.parts[2:])

    def _store(self) -> Any:
        scheme, archive = self._site()
        version = None
        if archive and not URL.match(archive):
            known = os.stat(archive)  # noqa: PTH116  # an archive that was replaced is opened anew
            version = known.st_mtime_ns, known.st_size
        return _store(scheme, archive, version, os.getpid())

    @contextlib.contextmanager
    def _told(self) -> Any:
        """Whatever a store raises becomes a sentence, but for what is not there, which callers ask for."""
        try:
            yield
        except (FileNotFoundError, IsADirectoryError) as error:
            number = errno.ENOENT if isinstance(error, FileNotFoundError) else errno.EISDIR
            raise OSError(number, os.strerror(number), str(self)) from error
        except Exception as error:  # each store has its own
            raise Unreachable(self, error) from error


class _Content(io.RawIOBase):
    """A remote file: its beginning is asked for, and all of it once more is wanted, as of a photo to be decoded.

    So to look at the headers of thousands of photos does not fetch them.
    """

    def __init__(self, path: RemotePath) -> None:
        self.path, self.place = path, 0
        self.content = path.content(FIRST)
        self.is_whole = len(self.content) < FIRST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.place + len(buffer) > len(self.content):
            self._fetch(wanted=self.place + 1)
        part = self.content[self.place : self.place + len(buffer)]
        buffer[: len(part)] = part
        self.place += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            self._fetch(wanted=sys.maxsize)
        self.place = max(0, offset + (0, self.place, len(self.content))[whence])
        return self.place

    def tell(self) -> int:
        return self.place

    def _fetch(self, wanted: int) -> None:
        if wanted > len(self.content) and not self.is_whole:
            self.content, self.is_whole = self.path.content(), True


def version_of(path: RemotePath, known: Mapping[str, Any]) -> str | None:
    """What changes with a file's content, by what its folder tells of it; None where that is too little."""
    said = [str(known[name]) for name in VERSIONS if known.get(name)]
    said = said or [str(known[name]) for name in TIMES if known.get(name)]
    return repr((str(path), known.get("size"), said)) if said else None


@lru_cache(8)
def _store(scheme: str, archive: str, version: object, process: int) -> Any:
    """The file system of fsspec.

    Of each process its own: connections, and the place in an archive's file, cannot be shared with one that was forked.
    """
    import fsspec  # takes time to load, and is for those who name a URL

    if not archive:
        return fsspec.filesystem(scheme)
    file = fsspec.open(archive, "rb").open() if URL.match(archive) else Path(archive).open("rb")  # noqa: SIM115
    store = fsspec.filesystem("zip", fo=file)
    store.ls("")  # reads its directory, before threads ask for it at once
    return store


def _explained(error: Exception) -> tuple[str, str]:
    """(reason, remedy) for the user."""
    if type(error).__name__ in NO_CREDENTIALS:
        return "there are no credentials for it", (
            "Give them in the environment or the configuration file of the store's own package "
            "(AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS)."
        )
    if isinstance(error, PermissionError):
        return "permission is denied", "Give these credentials, or this user, the right to list and read it."
    if isinstance(error, zipfile.BadZipFile):
        return "it is no ZIP archive, or is damaged", "Replace the archive, or unpack it."
    if isinstance(error, RuntimeError) and "encrypted" in str(error):
        return "the archive asks for a password", "Unpack it."
    return f"the store gives no answer ({first_line(error)})", "Check the connection and the URL, and try again."
