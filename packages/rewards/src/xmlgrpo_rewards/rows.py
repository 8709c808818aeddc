"""JSON lines in, rows out: every broken line is named by file and line."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from xmlgrpo_rewards.errors import UserError

MAX_LINE_BYTES = 10_000_000
# JSON's escapes can write it, no tokenizer reads it
HALF_CHARACTER = re.compile("[\ud800-\udfff]")


class Row(NamedTuple):
    """One line of a JSONL file.

    Attributes:
        id: file name and line number, such as `train.jsonl:17`.
        fields: the line's JSON object.
    """

    id: str
    fields: Mapping[str, Any]


def read_jsonl(path: Path) -> Iterator[Row]:
    """Read one JSON object per line; empty lines are passed over.

    Raises:
        UserError: the file cannot be read or holds no row, or a line is too long, not UTF-8, not
            JSON or not an object.
    """
    rows = 0
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if line.strip():
                    rows += 1
                    row_id = f"{path.name}:{number}"
                    yield Row(row_id, _object(line.removeprefix(b"\xef\xbb\xbf"), row_id))
    except OSError as error:
        raise UserError(
            f"expected a JSONL file at {str(path)!r}: {error.strerror or error}; check the path"
        ) from error
    if not rows:
        raise UserError(f"expected at least one row in {str(path)!r}, got an empty file")


def _object(line: bytes, row_id: str) -> Mapping[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise UserError(
            f"{row_id}: expected one JSON object per line, got a line of over {MAX_LINE_BYTES:,} "
            "bytes; is this a JSONL file?"
        )
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{row_id}: expected UTF-8, got the byte 0x{line[error.start]:02x} at column "
            f"{error.start + 1}; convert the file to UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        shown = repr(line[:60].decode("utf-8", "replace").rstrip())
        raise UserError(
            f"{row_id}: expected one JSON object per line, got {shown} ({error}); correct the line "
            "or take it out"
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            f"{row_id}: expected a JSON object, got {type(value).__name__}: "
            f"{repr(value)[:60]}; correct the line or take it out"
        )
    if b"\\u" in line and (half := HALF_CHARACTER.search(json.dumps(value, ensure_ascii=False))):
        raise UserError(
            f"{row_id}: expected text, got half a character ({half[0]!r}, one of a pair without "
            "the other); correct the line or take it out"
        )
    return value
