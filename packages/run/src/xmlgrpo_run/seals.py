"""What a run wrote down is what is read: JSON that holds its own SHA-256, files with theirs.

A disk, a copy that was cut off or an editor changes bytes without a word.  What a run goes on from,
and what its numbers are taken from, is written here and read here.
"""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import file_sha256
from xmlgrpo_run.files import read_json, write_json

SEAL = "sha256"  # the key of a file's own digest


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with its own digest: the whole file or none."""
    write_json(path, sealed(content))


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its own digest."""
    return {**content, SEAL: _digest(content)}


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote, without the digest.

    Raises:
        UserError: missing, unreadable, not JSON, or not what was written.
    """
    content = read_json(path)
    if content.pop(SEAL, None) != _digest(content):
        raise UserError(
            f"{path} is damaged or was changed: its sha256 is not that of its content; restore it "
            "from a copy"
        )
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_hashes(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of files, by their path from the folder."""
    return {str(path.relative_to(folder)): file_sha256(path) for path in sorted(paths)}


def damage(folder: Path, hashes: Mapping[str, str]) -> str | None:
    """What is wrong with the first file that is not as `file_hashes` found it; None if all are."""
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():  # a pipe would be waited for
            return f"{path} is {'not a file' if path.exists() else 'missing'}"
        try:
            if file_sha256(path) != expected:
                return f"{path} is damaged or was changed: its sha256 is another"
        except UserError as error:
            return str(error)
    return None


def stamps(folder: Path, paths: Iterable[Path]) -> dict[str, Any]:
    """The hash, size and time of large files that do not change, for `changed_since`."""
    hashes = file_hashes(folder, paths)
    return {name: {SEAL: found, **_size_and_time(folder / name)} for name, found in hashes.items()}


def changed_since(folder: Path, stamped: Mapping[str, Any]) -> str | None:
    """As `damage`, but a file whose size and time are what they were is not read again."""
    asked = {}
    for name, stamp in stamped.items():
        path = folder / name
        if not path.is_file() or {SEAL: stamp[SEAL], **_size_and_time(path)} != stamp:
            asked[name] = stamp[SEAL]
    return damage(folder, asked)


def _size_and_time(path: Path) -> dict[str, int]:
    state = path.stat()
    return {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
