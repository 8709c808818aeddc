"""Every fault that a file can have, put into every file, before something reads them."""

import io
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from xmlgrpo_rewards.console_script import run_command


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


FAULTS = {
    "cut": cut,
    "flipped": flip,
    "empty": lambda path: path.write_bytes(b""),
    "not-json": lambda path: path.write_bytes(b"{not json"),
    "another-type": lambda path: path.write_bytes(b"[1]"),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "not-utf8": lambda path: path.write_bytes(b'{"a": "\xff\xfe"}'),
    "gone": Path.unlink,
    "folder": instead(Path.mkdir),
    "pipe": instead(os.mkfifo),
    "link-to-itself": instead(lambda path: path.symlink_to(path.name)),
    "input-output-error": instead(lambda path: path.symlink_to("/proc/self/mem")),
}


def said(read: Callable[[], object]) -> tuple[Any, str]:
    """How a command that does this ends: with a value, or with an exit code and what it says."""
    values: list[object] = []
    lines = io.StringIO()
    with redirect_stderr(lines), pytest.raises(SystemExit) as left:
        run_command(lambda: values.append(read()))
    return (values[0], "") if left.value.code in (0, None) else (left.value.code, lines.getvalue())


def files_of(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.stat().st_size
    )


def every_fault(
    there: Path,
    files: Sequence[str],
    read: Callable[[], object],
    is_fine: Callable[[str, Any, Any], bool] = lambda _file, value, sound: bool(value == sound),
) -> list[str]:
    """What went wrong, by file and fault; empty when each was refused or changed nothing.

    Args:
        there: the folder, which is put back after each.
        files: those that are damaged, by their names in it.
        read: what a command makes of the folder.
        is_fine: whether a value is right although the file was damaged; it gets the sound one too.
    """
    kept = there.with_name(f"{there.name}-sound")
    shutil.copytree(there, kept, symlinks=True)
    sound, refused = said(read)
    assert not refused, refused
    wrong = []
    for file in files:
        for name, fault in FAULTS.items():
            shutil.rmtree(there)
            shutil.copytree(kept, there, symlinks=True)
            fault(there / file)
            try:
                value, lines = said(read)
            except Exception as error:  # noqa: BLE001 - all are listed
                wrong.append(f"{file}, {name}: {error!r:.200}")
                continue
            if lines:
                if value != 2 or lines.count("\n") != 1 or "Traceback" in lines:
                    wrong.append(f"{file}, {name}: {lines}")
            elif not is_fine(file, value, sound):
                wrong.append(f"{file}, {name}: used in silence")
    return wrong
