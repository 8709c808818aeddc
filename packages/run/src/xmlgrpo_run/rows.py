"""The reader of local rows that training, evaluation and export share: text forms and Parquet.

Text is read by `xmlgrpo_rewards.rows`, which has the standard library only; Parquet by pyarrow,
which `datasets` stands on.  Nothing is copied into a cache, and every broken row is named.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_rewards.rows import (
    MAX_ROW_BYTES,
    BadRows,
    Row,
    check_unpacked,
    count_text_rows,
    is_parquet,
    text_rows,
    too_long,
)

MOST_COLUMNS = 1_000  # a column takes some kilobytes before its first row
BATCH_ROWS = 16  # of the longest that are read, 160 MB


def read_rows(*paths: Path, bad: BadRows | None = None) -> Iterator[Row]:
    """Read the rows of files, one file after the other.

    Args:
        paths: the files.
        bad: as for `xmlgrpo_rewards.rows.text_rows`.

    Raises:
        UserError: as `text_rows`, of Parquet too; the bad rows of all files together.
    """
    found = bad or BadRows()
    for path in paths:
        yield from _parquet_rows(path, found) if is_parquet(path) else text_rows(path, found)
    if bad is None:
        found.refuse()


def count_rows(path: Path) -> int:
    """How many rows a file has.

    Raises:
        UserError: it cannot be read.
    """
    if not is_parquet(path):
        return count_text_rows(path)
    with _parquet(path) as file:
        return int(file.metadata.num_rows)


def _parquet_rows(path: Path, bad: BadRows) -> Iterator[Row]:
    number = 0
    with _parquet(path) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            for at in range(batch.num_rows):
                number += 1
                row_id = f"{path.name}:{number}"
                if row := bad.tried(row_id, _row, batch.slice(at, 1), row_id):
                    yield row
    if not number:
        raise UserError(f"expected at least one row in {str(path)!r}, got an empty file")


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`; what goes wrong while it is read is a sentence."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError(
            f"{path}: Parquet is read by the package pyarrow, which is not installed: "
            ".venv/bin/pip install pyarrow, or convert the file to JSON lines"
        ) from None
    try:
        with ParquetFile(path) as file:
            if file.metadata.num_columns > MOST_COLUMNS:
                raise UserError(
                    f"{path}: expected at most {MOST_COLUMNS:,} columns, got "
                    f"{file.metadata.num_columns:,}; keep those of the problems"
                )
            parts = range(file.metadata.num_row_groups)
            sizes = (file.metadata.row_group(part).total_byte_size for part in parts)
            check_unpacked(path, sum(sizes))
            yield file
    except (ArrowException, OSError, UnicodeDecodeError) as error:  # the last of its names
        reason = one_line(str(error), 200)
        raise UserError(
            f"{path} cannot be read as Parquet: {reason}; fetch the file again"
        ) from error


def _row(batch: Any, row_id: str) -> Row:
    """The one row of a `pyarrow.RecordBatch`."""
    if batch.nbytes > MAX_ROW_BYTES:
        raise too_long(row_id)
    try:
        [fields] = batch.to_pylist()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{row_id}: expected UTF-8, got the byte 0x{error.object[error.start]:02x}; correct "
            "the row or take it out"
        ) from error
    return Row(row_id, fields)
