"""Is there room?  Asked before the hours, not after them."""

import shutil
from pathlib import Path

from xmlgrpo_rewards.errors import UserError

GIB, MIB = 1 << 30, 1 << 20
SLACK_BYTES = 64 * MIB  # beside what was counted


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
        needed_bytes: how much will be written.
        what: named in the error.
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
