"""A folder's own files, opened once: what is checked, hashed and sent is one and the same file.

By a name alone nobody knows what will be read later: it may be a link that leads out of the folder,
a pipe, or another file by then.  So every file is opened without following a link below the folder,
and from then on it is known by its descriptor.  What is written into it meanwhile is seen before
the commit: every write changes its times.
"""

import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import OnBytes, file_sha256
from xmlgrpo_run.files import json_object

MAX_SMALL_BYTES = 64 << 20  # of a file that is read whole: Gemma 3's tokenizer.json has 33 MB
DESCRIPTORS = Path("/proc/self/fd")  # opened anew they are the same file, whatever its name is now
KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


class OwnFile:
    """One regular file of a folder, open for as long as this object is there.

    The folder may be reached through links, as its user named it.

    Raises:
        UserError: it is no file, it or a folder on the way to it is a link, or it has another name
            outside of the folder.
    """

    def __init__(self, folder: Path, path: Path) -> None:
        self.path = path
        self._folder = folder
        self._descriptor = _opened(folder, path)
        weakref.finalize(self, os.close, self._descriptor)
        self._state = os.fstat(self._descriptor)
        _require_kind(self._state, path, stat.S_ISREG, path.name)
        if self._state.st_nlink > 1 and self._state.st_nlink > _names_in(folder, self._state):
            raise UserError(
                f"{path} has another name outside of {folder} (a hard link), so it may be somebody "
                f"else's file; put a copy in its place: cp {path} COPY && mv COPY {path}"
            )

    @property
    def size(self) -> int:
        """In bytes, when it was opened."""
        return self._state.st_size

    @property
    def address(self) -> Path:
        """What opens this very file again, where the system has such names; else its path."""
        return DESCRIPTORS / str(self._descriptor) if DESCRIPTORS.is_dir() else self.path

    @contextmanager
    def readable(self) -> Iterator[Path]:
        """Its address, for a reader that takes a path; messages name the file itself."""
        try:
            yield self.address
        except UserError as error:
            raise type(error)(str(error).replace(str(self.address), str(self.path))) from None

    def read(self) -> bytes:
        """The whole content of a small file."""
        if self.size > MAX_SMALL_BYTES:
            raise UserError(
                f"{self.path} has {self.size:,} bytes; expected at most {MAX_SMALL_BYTES:,} of a "
                "file that holds no weights"
            )
        try:
            return os.pread(self._descriptor, self.size, 0)
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror}") from None

    def json(self, *, is_sealed: bool = False) -> dict[str, Any]:
        """The JSON object that it holds; a sealed one, as it was written, without its seal."""
        return json_object(self.read(), self.path, is_sealed=is_sealed)

    def sha256(self, on_bytes: OnBytes = lambda _count: None) -> str:
        """The hash of its bytes, in hexadecimal."""
        with self.readable() as address:
            return file_sha256(address, on_bytes)

    def require_unchanged(self) -> None:
        """See that nobody has written into it, or taken its name, since it was opened."""
        now = os.fstat(self._descriptor)
        if not DESCRIPTORS.is_dir():
            with OwnFile(self._folder, self.path).readable() as path:
                now = path.stat()
        if _version(now) != _version(self._state):
            raise UserError(
                f"{self.path} was changed while it was published, so nothing was committed; wait "
                "until whatever writes it is done, then run the same command again"
            )


def _version(state: os.stat_result) -> tuple[int, ...]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _opened(folder: Path, path: Path) -> int:
    """A descriptor of the file, no link followed below the folder."""
    *between, name = path.relative_to(folder).parts
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for step in between:
            _require_kind(os.stat(step, dir_fd=at, follow_symlinks=False), path, stat.S_ISDIR, step)
            inner = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        # looked at first: to open a device may do something, and a pipe would be waited for
        _require_kind(os.stat(name, dir_fd=at, follow_symlinks=False), path, stat.S_ISREG, name)
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    finally:
        os.close(at)


def _require_kind(state: os.stat_result, path: Path, expected: Any, step: str) -> None:
    if not expected(state.st_mode):
        found = next((words for is_kind, words in KINDS if is_kind(state.st_mode)), "a device")
        where = path if step == path.name else f"{step}/ on the way to {path}"
        raise UserError(
            f"{where} is {found}; only files that lie in the folder itself are published: put the "
            "file there, or leave it out"
        )


def _names_in(folder: Path, state: os.stat_result) -> int:
    """How many names in the folder lead to this file."""
    names = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return sum(os.path.samestat(path.lstat(), state) for path in names)
