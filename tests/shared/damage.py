"""Every fault that a file can have, put into every file of a run, before something reads them.

`ARTEFACTS` says of each file that a stage leaves in a run's folder which of the stages in
tests/faults/test_damaged_runs.py read it.  A real run's file that no line names fails a test.
"""

import fnmatch
import io
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_run.files import remove

ARTEFACTS = {
    "config.yaml": "show continue report",
    "resolved.json": "report push",
    "identity.json": "continue",
    "ended.json": "",  # a note for whoever reads the page: nothing is decided by it
    ".lock": "lock",
    "metrics.jsonl": "report watch",
    "completions/step-*.jsonl": "report rescore watch",
    "holdout/items.jsonl": "eval",
    "holdout/report-*.json": "continue report compare",
    "holdout/validation-*.json": "report watch",
    "checkpoints/checkpoint-*/*": "continue",
    "best/step-*/*": "continue",
    "best/*": "continue",
    "adapter/*": "ask eval merge push",
    "curves.png": "push",
    "manifest.json": "show ask eval report merge push ladder compare rescore",
    "eval/*.replies.jsonl": "journal",
    "eval/fresh-*.jsonl": "",  # packages/evaluator/tests/test_fresh.py
    "eval/*.json": "ladder report push",
    ".merged.lock": "lock",
    "merged/*": "ask-merged eval-merged gguf ladder push",
    "merged.rejected/*": "",  # for its user to look at
    "gguf/*.gguf": "ask-gguf gguf ladder push",
    "gguf/*.Modelfile": "push",
    "gguf/check.json": "ask-gguf gguf push",
    "gguf/*.gguf.rejected": "",  # for its user to look at
    "gguf/*.imatrix.npz": "",  # made anew whenever it is used
    "gguf/.lock": "lock",
    "ladder.json": "report push",
    "ladder.png": "push",
    # nothing reads these; each is replaced whole
    "report.html": "",
    "hub/README.md": "",
    "hub/pushed.json": "",
    # of libraries, which alone read them
    "checkpoints/README.md": "",
    "wandb-id": "",
    "wandb/*": "",
    "trackio/*": "",
    "tensorboard/*": "",
    ".unsloth/*": "",
}
"""A file's path in the run -> the stages that read it; empty with the reason beside it."""


def artefact(path: str) -> str | None:
    """The line of `ARTEFACTS` that a file of a run belongs to; None where none names it."""
    return next((line for line in ARTEFACTS if fnmatch.fnmatch(path, line)), None)


def unnamed(run: Path) -> list[str]:
    """The files of a run's folder that no line of `ARTEFACTS` names."""
    files = (path for path in run.rglob("*") if path.is_file() and not path.is_symlink())
    names = (str(path.relative_to(run)) for path in files)
    return sorted(name for name in names if artefact(name) is None)


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
    "no-keys": lambda path: path.write_bytes(b"{}\n"),
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
    *,
    writes: bool = False,
) -> list[str]:
    """What went wrong, by file and fault; empty when each was refused or changed nothing.

    Args:
        there: the folder; each damaged file is put back.
        files: those that are damaged, by their names in it.
        read: what a command makes of the folder.
        is_fine: whether a value is right although the file was damaged; it gets the sound one too.
        writes: what reads the folder writes there as well: all of it is put back.
    """
    kept = there.with_name(f"{there.name}-sound")
    shutil.copytree(there, kept, symlinks=True)
    sound, refused = said(read)
    assert not refused, refused
    wrong = []
    for file in files:
        for name, fault in FAULTS.items():
            if writes:
                shutil.rmtree(there)
                shutil.copytree(kept, there, symlinks=True)
            else:
                remove(there / file)
                shutil.copy2(kept / file, there / file)
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
        remove(there / file)
        shutil.copy2(kept / file, there / file)
    return wrong
