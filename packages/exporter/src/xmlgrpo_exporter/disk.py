"""Is there room?  Asked before the hours, not after them."""

import shutil
from pathlib import Path

from xmlgrpo_rewards.errors import UserError

GIB = 1 << 30
SLACK_BYTES = 64 << 20


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
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed_bytes + SLACK_BYTES:
        raise UserError(
            f"{what} needs about {needed_bytes / GIB:.1f} GiB in {folder}, {free / GIB:.1f} GiB "
            f"are free; free some space or {instead}"
        )
