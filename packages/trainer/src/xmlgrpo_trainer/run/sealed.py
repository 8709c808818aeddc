"""Checkpoints that can be trusted: complete or not there.

transformers writes a checkpoint's files straight into their place, so a process that is killed
while it writes leaves a folder that looks like one.  `seal` writes a list of the files and their
sizes last, and only folders whose list holds are continued from.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

SEAL = "complete.json"
NUMBERED = re.compile(r"checkpoint-\d+")


def seal(folder: Path, step: int) -> None:
    """Write the list of a checkpoint's files and sizes, after forcing them to the disk."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != SEAL:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            files[str(path.relative_to(folder))] = path.stat().st_size
    partial = folder / f"{SEAL}.partial"
    partial.write_text(json.dumps({"step": step, "files": files}), encoding="utf-8")
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(folder / SEAL)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to continue from.

    Attributes:
        good: the newest checkpoint whose files are all there in full; None when there is none.
        damaged: newer ones, the newest first, which a killed process or a full disk has left.
    """

    good: Path | None
    damaged: tuple[Path, ...]


def find_checkpoints(checkpoints: Path) -> Found:
    """Look through a run's checkpoints, from the newest on."""
    numbered = [path for path in checkpoints.glob("checkpoint-*") if NUMBERED.fullmatch(path.name)]
    damaged: list[Path] = []
    for path in sorted(numbered, key=step_of, reverse=True):
        if _holds(path):
            return Found(path, tuple(damaged))
        damaged.append(path)
    return Found(None, tuple(damaged))


def last_good(checkpoints: Path) -> Path | None:
    """The newest checkpoint whose files are all there in full; None when there is none."""
    return find_checkpoints(checkpoints).good


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written, by its name."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _holds(folder: Path) -> bool:
    try:
        files = json.loads((folder / SEAL).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
