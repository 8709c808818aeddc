"""A file that somebody else's code writes: how far it has come is read off its size."""

from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console

from xmlgrpo_run.screen.progress import Stage


def growing(
    console: Console, words: str, expected_bytes: int, files: Callable[[], Iterable[Path]]
) -> Stage:
    """A stage that shows files growing to about the size that they will have.

    What is computed before the first byte says nothing about the pace of those that follow.

    Args:
        console: where to.
        words: what is being done.
        expected_bytes: the size in the end.
        files: those that are written; one that is not there counts nothing.
    """
    begun = False

    def written() -> float:
        nonlocal begun
        size = min(sum(map(_bytes, files())), expected_bytes)
        if size and not begun:
            begun = True
            stage.count_from(size, expected_bytes)
        return size

    stage = Stage(console, words, total=expected_bytes, unit="bytes", poll=written)
    return stage


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # not begun yet, or renamed this moment
        return 0
