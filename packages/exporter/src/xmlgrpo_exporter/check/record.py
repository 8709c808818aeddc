"""`check.json`: what the gates found of the files in its folder.

Its `passed` speaks for all of them, and `files.NAME.sha256` says which bytes were checked.  A file
that is gone takes its entry along.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xmlgrpo_exporter.check.check import FileCheck
from xmlgrpo_exporter.check.exam import Bench
from xmlgrpo_exporter.convert.converter import PINNED
from xmlgrpo_run.files import read_json, write_json
from xmlgrpo_run.folder import CHECK_RECORD

FORMAT = 1


def read_check(folder: Path) -> dict[str, Any]:
    """The folder's record; empty when there is none or it is of another format."""
    path = folder / CHECK_RECORD
    stored = read_json(path) if path.is_file() else {}
    return stored if stored.get("format") == FORMAT else {}


def write_check(
    folder: Path,
    model: Path,
    fingerprint: str,
    bench: Bench,
    checks: Iterable[FileCheck],
    *,
    source: FileCheck | None = None,
) -> None:
    """Add what was found to the folder's record.

    Args:
        folder: with the files.
        model: what they were held against.
        fingerprint: of that model; entries of another one are dropped.
        bench: the prompts they were checked with.
        checks: what was found; a rejected file's entry stands until the next record.
        source: what was found of the file that others are quantized from, which is not kept; the
            last one stands.
    """
    stored = read_check(folder)
    kept = {}
    checked_source = source.as_json() if source else None
    if stored.get("model", {}).get("fingerprint") == fingerprint:
        checked_source = checked_source or stored.get("source")
        kept = {name: old for name, old in stored["files"].items() if (folder / name).is_file()}
    files = {**kept, **{check.file: check.as_json() for check in checks}}
    sources = [checked_source] if checked_source else []
    record = {
        "format": FORMAT,
        "passed": bool(files) and all(entry["passed"] for entry in (*files.values(), *sources)),
        "model": {"folder": model.name, "fingerprint": fingerprint},
        "questions": {"source": bench.source, "tokenized": len(bench.ids)},
        "replies": {"count": len(bench.replies), "new_tokens": bench.new_tokens},
        "llama_cpp_python": PINNED,
        "source": checked_source,
        "files": files,
    }
    write_json(folder / CHECK_RECORD, record)
