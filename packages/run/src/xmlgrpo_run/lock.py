"""One writer at a time: two exports at once would take each other's files away."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xmlgrpo_rewards.errors import UserError


@contextmanager
def hold(lock: Path) -> Iterator[None]:
    """Be the only one who writes into the lock's folder, until the block or the process ends.

    Args:
        lock: a file that is made for this and stays there, empty.

    Raises:
        UserError: another process holds it, or nothing can be written there.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    except OSError as error:
        raise UserError(
            f"cannot write into {lock.parent}: {error.strerror}; give a writable folder with --out"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another export is writing into {lock.parent}; wait for it, or give another --out"
            ) from None
        yield
