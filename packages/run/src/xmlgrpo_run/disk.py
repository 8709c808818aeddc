"""Is there room?  Asked before the hours, not after them; and a full or failing disk in words."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xmlgrpo_rewards.errors import UserError, is_output_lost

GIB, MIB = 1 << 30, 1 << 20
SLACK_BYTES = 64 * MIB  # beside what was counted
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FAILING = {errno.EIO, errno.ESTALE, errno.ENODEV, errno.EROFS}
# safetensors and torch.save have errors of their own, and not an `OSError`
FULL_WORDS = ("no space left", "os error 28", "disk quota", "file too large", "os error 27")
FAILING_WORDS = ("input/output error", "os error 5)", "stale file handle", "read-only file system")


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder that need not exist yet."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def require_free(
    folder: Path, needed_bytes: int, what: str, instead: str = "give --out on another disk"
) -> None:
    """Refuse to start what would fill the disk.

    Args:
        folder: where it will be written; need not exist yet.
        instead: what to do if no space can be freed, named in the error.

    Raises:
        UserError: less is free than needed.
    """
    free = free_bytes(folder)
    if free < needed_bytes + SLACK_BYTES:
        raise UserError(
            f"{what}: expected about {_size(needed_bytes + SLACK_BYTES)} free in {folder}, got "
            f"{_size(free)}; free some space or {instead}"
        )


def is_full(folder: Path) -> bool:
    """Whether nothing more can be written there: the likely reason of a failure that names none."""
    return free_bytes(folder) < 16 * MIB


@contextmanager
def writing(path: Path, kept: str = "what was there before is kept") -> Iterator[None]:
    """Say which file or folder it was that a full or failing disk did not take.

    Python's own error of a failed write names no file, and those of libraries are no `OSError`.

    Args:
        path: what the block writes.
        kept: what is not lost, named in the error.

    Raises:
        UserError: the disk is full or fails.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        advice = _advice(error, path.parent)
        is_print = isinstance(error, OSError) and error.filename is None and is_output_lost()
        if advice is None or is_print:  # `run_command` says so
            raise
        words = (str(error).splitlines() or [type(error).__name__])[0][:200]
        what = f"{path} could not be written ({words}); {kept}"
        raise UserError(f"{what}. {advice} and run the same command again") from error


def _advice(error: Exception, folder: Path) -> str | None:
    """What to do about a disk that is full or fails; None of any other error."""
    number, text = getattr(error, "errno", None), str(error).lower()
    # torch.save says only that a write failed
    failed_write = isinstance(error, RuntimeError | OSError) and "write" in text
    if number in FULL or any(words in text for words in FULL_WORDS):
        return "Free some space"
    if failed_write and is_full(folder):
        return "Free some space"
    if number in FAILING or any(words in text for words in FAILING_WORDS):
        return "Look at the disk"
    return None


def refuse_if_full(folder: Path, what: str) -> None:
    """Name the disk as the reason when something failed on a full one.

    Raises:
        UserError: the disk is full.
    """
    if is_full(folder):
        raise UserError(
            f"{what} could not be written: the disk of {folder} is full; free some space and run "
            "the same command again"
        )


def _size(size_bytes: int) -> str:
    if size_bytes < GIB:
        return f"{size_bytes / MIB:.0f} MiB"
    return f"{size_bytes / GIB:.1f} GiB"
