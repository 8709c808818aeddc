"""One writer at a time: two at once would cut and overwrite each other's files."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from xmlgrpo_rewards.errors import UserError

LOCK = ".lock"  # in the folder that is written into; stays there, empty


@contextmanager
def one_writer(
    lock: Path, refusal: str, *, on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Be the only process that has the lock, until the block or the process ends.

    Args:
        lock: the file to lock, made if it is missing: `LOCK` in a folder, or the written file.
        refusal: the error when another process has it: what that one does, and what to do.
        on_wait: called once when another process has it; then its end is waited for.

    Raises:
        UserError: another process has it, or nothing can be written there.
    """
    while True:
        with _opened(lock) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_wait is None:
                    raise UserError(refusal) from None
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_still_there(file, lock):
                continue  # the one that had it has removed it
            yield
            return


def is_held(lock: Path) -> bool:
    """Whether a process has the lock now; nothing is written, and nobody is kept from it."""
    if not lock.is_file():  # a pipe would be waited for
        return False
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _opened(lock: Path) -> IO[bytes]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        if lock.exists() and not lock.is_file():  # a pipe would be waited for
            raise UserError(f"cannot write {lock}: it is not a file; remove it")
        return lock.open("ab")
    except OSError as error:
        raise UserError(
            f"cannot write into {lock.parent}: {error.strerror}; name a writable folder"
        ) from None


def _is_still_there(opened: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened.fileno()), path.stat())
    except FileNotFoundError:
        return False
