"""A bar that follows a growing file."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn


def file_watcher(
    console: Console,
) -> Callable[[str, Path, int], AbstractContextManager[Callable[[], None]]]:
    """How `gguf.py` shows what it writes: a bar on a terminal, a line when done in a pipe."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())

    @contextmanager
    def watch(words: str, path: Path, expected_bytes: int) -> Iterator[Callable[[], None]]:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task(words, total=expected_bytes)

            def on_poll() -> None:
                written = path.stat().st_size if path.exists() else 0
                progress.update(bar, completed=min(written, expected_bytes))

            yield on_poll
            written = path.stat().st_size
            progress.update(bar, completed=written, total=written)
        if not console.is_terminal:
            console.print(f"{words}: {written / 1e6:.1f} MB")

    return watch
