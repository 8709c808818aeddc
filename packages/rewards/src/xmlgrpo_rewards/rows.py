"""Local files in, rows out: which files hold a split, and every broken row named by file and line.

Read here are JSON lines, CSV and TSV, plain or packed by gzip, bzip2 or xz.  Parquet needs a
library: `xmlgrpo_run.rows` reads it too, and is what training, evaluation and export call.
"""

import bz2
import csv
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from xmlgrpo_rewards.errors import UserError

MAX_ROW_BYTES = 10_000_000
MAX_ROW_LINES, MAX_COLUMNS = 100_000, 10_000  # of one row of a table
MAX_EMPTY_LINES = 100_000  # one after the other
MAX_DICTIONARY_BYTES = 100 << 20  # of xz; its strongest level has 64 MiB
MOST_TIMES = 100  # the size of a file that it may unpack to; texts reach twenty
# Of one JSON text: a byte of `[[],[],...]` becomes thirty in memory, and what is nested deeper than
# any file of ours ends in a RecursionError wherever it is walked through.
MAX_JSON_BYTES, MAX_JSON_VALUES, MAX_JSON_DEPTH = 16 << 20, 500_000, 64
NO_STRUCTURE = bytes(set(range(256)) - set(b'[]{},"'))
# JSON's escapes can write it, no tokenizer reads it
HALF_CHARACTER = re.compile("[\ud800-\udfff]")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PARQUET = b"PAR1"
FIRST_BYTES = 6  # tell how a file is packed
MOST_PIECES, PIECE_BYTES = 20_000, 500  # packed one after the other; a chance mark is rarer
PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
DELIMITERS = {"csv": ",", "tsv": "\t"}
MOST_BAD = 10  # rows that are named before a file is given up
ENDINGS = r"\.(?:jsonl|json|csv|tsv|parquet)(?:\.(?:gz|bz2|xz))?"
FORMS = "JSON lines, CSV, TSV or Parquet"


T = TypeVar("T")


class Row(NamedTuple):
    """One row of a file.

    Attributes:
        id: file name and line number, such as `train.jsonl:17`; of Parquet the row's number.
        fields: the row's values by their names.
    """

    id: str
    fields: Mapping[str, Any]


class BadRows:
    """Rows that cannot be read.  They are refused together, so that a file is corrected once."""

    def __init__(self) -> None:
        self._errors: dict[str, UserError] = {}

    def tried(self, row_id: str, read: Callable[..., T], *of: Any) -> T | None:
        """What `read` makes of a row; None of a bad one.

        Raises:
            UserError: so many are bad that the others are not looked at.
        """
        try:
            return read(*of)
        except UserError as error:
            self._errors[row_id] = error
            if len(self._errors) >= MOST_BAD:
                self.refuse()
            return None

    @property
    def messages(self) -> list[str]:
        """What is wrong with each, in their order."""
        return [str(error) for error in self._errors.values()]

    def refuse(self) -> None:
        """See that there was none.

        Raises:
            UserError: there were; says what is wrong with the first, and where the others stand.
        """
        if not self._errors:
            return
        (_, first), *others = self._errors.items()
        if not others:
            raise first
        more = ", and maybe more after them" if len(self._errors) >= MOST_BAD else ""
        also = f"{len(others)} other {'row is' if len(others) == 1 else 'rows are'} bad, too"
        raise UserError(
            f"{first}; {also}: {', '.join(name for name, _ in others)}{more}"
        ) from first


def text_rows(path: Path, bad: BadRows | None = None) -> Iterator[Row]:
    """Read one row per line: a JSON object, or the cells of a table whose first line names them.

    Empty lines are passed over.  The name's ending tells a table; how a file is packed is seen in
    its first bytes.

    Args:
        path: the file.
        bad: gets the bad rows, and is refused by who gave it; else they are refused at the end.

    Raises:
        UserError: the file cannot be read, is Parquet or holds no row; or rows are too long, not
            UTF-8, not JSON, not an object, or not what the table's first line names.
    """
    rows, found = 0, bad or BadRows()
    with _unpacked(path) as file:
        for row in _rows(file, path, found):
            rows += 1
            yield row
    if bad is None:
        found.refuse()
    if not rows and not found.messages:
        raise UserError(f"expected at least one row in {str(path)!r}, got an empty file")


def count_text_rows(path: Path) -> int:
    """How many rows `text_rows` gives; JSON is not parsed."""
    with _unpacked(path) as file:
        lines = _lines(file, path.name)
        if delimiter := _delimiter(path):
            return sum(1 for _ in _table(lines, path.name, delimiter, BadRows()))
        return sum(1 for _, line in lines if line.strip())


def is_parquet(path: Path) -> bool:
    """Whether the file is Parquet, by its first bytes or, where these are others, by its name."""
    try:
        with path.open("rb") as file:
            return path.suffix == ".parquet" or file.read(len(PARQUET)) == PARQUET
    except OSError as error:
        raise unreadable(path, error) from error


def _rows(file: IO[bytes], path: Path, bad: BadRows) -> Iterator[Row]:
    lines = _lines(file, path.name)
    if delimiter := _delimiter(path):
        yield from _table(lines, path.name, delimiter, bad)
        return
    for row_id, line in lines:
        fields = bad.tried(row_id, _object, line, row_id) if line.strip() else None
        if fields is not None:
            yield Row(row_id, fields)


def too_long(row_id: str) -> UserError:
    """The error about a row of over `MAX_ROW_BYTES`."""
    return UserError(
        f"{row_id}: expected one row, got one of over {MAX_ROW_BYTES:,} bytes; is this a file of "
        f"{FORMS}?"
    )


def files_of(place: Path, split: str, named: str, config: str | None = None) -> list[Path]:
    """The files that hold a split: `place` itself, or those in the folder `place`.

    In a folder, such as a data set downloaded from the Hub, they are `train.jsonl`,
    `train-00000-of-00002.parquet` and so on, or `train/0000.parquet`: in it, in the folder of the
    configuration, or in the only other one that has them.

    Args:
        place: a file or folder; `~` is the user's.
        split: `train` or `test`.
        named: what named the place, such as `data.path`, for errors.
        config: the data set's configuration, where it has several.

    Raises:
        UserError: there is none, a part of them is missing, or there are several to choose from.
    """
    place = expanded(place, named)
    if place.is_file():
        return [place]
    files = split_files(place, split, named, config)
    if not files:
        raise UserError(
            f"{named}: no file at {str(place)!r}; expected a file of {FORMS}, or a folder with "
            f"{split}.jsonl (or .csv, .parquet, {split}-00000-of-00001.parquet, ...)"
        )
    return files


def files_beside(place: Path, split: str, named: str, config: str | None = None) -> list[Path]:
    """The files of another split: of those in the same folder; none where there is none."""
    if place.is_dir():
        return split_files(place, split, named, config)
    return files_in(place.parent, split, named)


def expanded(place: Path, named: str) -> Path:
    """The same place with `~` replaced.

    Raises:
        UserError: it is the home of no user.
    """
    try:
        return place.expanduser()
    except RuntimeError as error:
        raise UserError(f"{named}: {str(place)!r}: {error}; write the path out") from None


def split_files(folder: Path, split: str, named: str, config: str | None = None) -> list[Path]:
    """The files of a split in a folder, as `files_of`; none where there is none."""
    if not folder.is_dir():
        return []
    for place in (folder, folder / config) if config else (folder,):
        if files := files_in(place, split, named):
            return files
    inside = [place for place in sorted(folder.iterdir()) if place.name[0] != "."]
    found = {place.name: files for place in inside if (files := files_in(place, split, named))}
    if len(found) > 1:
        raise UserError(
            f"{named}: {', '.join(found)} in {str(folder)!r} all hold a split {split!r}; name one "
            "of them"
        )
    return next(iter(found.values()), [])


def files_in(folder: Path, split: str, named: str) -> list[Path]:
    """The files of a split in a folder, but not in another folder of it."""
    if (folder / f"{split}.jsonl").is_file():
        return [folder / f"{split}.jsonl"]
    groups: dict[tuple[str, str], list[Path]] = {}
    shapes = (
        (folder, rf"{split}(?:-\d+-of-(?P<parts>\d+))?(?P<ending>{ENDINGS})"),
        (folder / split, rf"(?:\w+-)?\d+(?:-of-(?P<parts>\d+))?(?P<ending>{ENDINGS})"),
    )
    for place, shape in shapes:
        for file in sorted(place.iterdir()) if place.is_dir() else ():
            if (name := re.fullmatch(shape, file.name)) and file.is_file():
                groups.setdefault((name["parts"] or "", name["ending"]), []).append(file)
    if len(groups) > 1:
        names = ", ".join(files[0].name for files in groups.values())
        raise UserError(
            f"{named}: several files in {str(folder)!r} may be its split {split!r}: {names}; name "
            "one of them"
        )
    for (parts, _), files in groups.items():
        if parts and len(files) != int(parts):
            raise UserError(
                f"{named}: expected {int(parts)} files of the split {split!r} in {str(folder)!r}, "
                f"as {files[0].name} says, got {len(files)}; fetch the folder again"
            )
        return files
    return []


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes; what goes wrong while they are read is a sentence."""
    try:
        with path.open("rb") as file:  # once: it may be a pipe
            first = file.peek(FIRST_BYTES)
            if first.startswith(PARQUET) or path.suffix == ".parquet":
                raise UserError(
                    f"{path}: training, evaluation and export read Parquet; here expected JSON "
                    "lines, CSV or TSV, plain or packed by gzip, bzip2 or xz"
                )
            unpack = next((PACKED[mark] for mark in PACKED if first.startswith(mark)), None)
            if unpack and path.is_file():
                if unpack is lzma.open:
                    _check_dictionary(path)
                _check_pieces(path, first[:2])
                with unpack(path) as whole:
                    _check_size(whole, path)
            yield unpack(file) if unpack else file
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise UserError(f"{path} cannot be unpacked: {error}; fetch the file again") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _check_dictionary(path: Path) -> None:
    """See that an xz file asks for no more memory than text is packed with.

    Raises:
        lzma.LZMAError: it does, or is broken.
    """
    with path.open("rb") as file:
        beginning = file.read(1 << 12)
    lzma.LZMADecompressor(memlimit=MAX_DICTIONARY_BYTES).decompress(beginning, 1)


def unreadable(path: Path, error: OSError) -> UserError:
    """The error about a file that cannot be read."""
    return UserError(
        f"expected a file of rows at {str(path)!r}: {error.strerror or error}; check the path"
    )


def _check_pieces(path: Path, mark: bytes) -> None:
    """Refuse a file of a great many small packed pieces: each costs more time than its text."""
    size = pieces = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            size += len(piece)
            pieces += piece.count(mark)
    if pieces > MOST_PIECES and size < pieces * PIECE_BYTES:
        raise UserError(
            f"{path} is packed in over {MOST_PIECES:,} pieces of under {PIECE_BYTES} bytes; is it "
            "what it should be? Unpacked and packed again by hand it is read"
        )


def _check_size(whole: IO[bytes], path: Path) -> None:
    """Unpack a file once, which costs little, before its rows are made."""
    size = line_start = 0
    while piece := whole.read(1 << 20):
        if b"\n" in piece:
            line_start = size + piece.rindex(b"\n")
        size += len(piece)
        if size - line_start > MAX_ROW_BYTES:
            return  # whoever reads the rows names this one
        check_unpacked(path, size)


def check_unpacked(path: Path, size: int) -> None:
    """Refuse a small file that unpacks to a large one, `size` bytes, as no text does.

    Raises:
        UserError: it is over `MOST_TIMES` the file's size.
    """
    if size > MOST_TIMES * path.stat().st_size + MAX_ROW_BYTES:
        raise UserError(
            f"{path} unpacks to over {MOST_TIMES} times its size, which rows of text do not; is "
            "it what it should be? Unpacked by hand it is read"
        )


def _delimiter(path: Path) -> str | None:
    """What parts the cells of a table, by the file's ending; None for JSON lines."""
    ends = path.name.lower().split(".")[-2:]
    return next((DELIMITERS[end] for end in ends if end in DELIMITERS), None)


def _lines(file: IO[bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """Every line with its row id."""
    number = empty = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(line) > MAX_ROW_BYTES:
            raise too_long(f"{name}:{number}")
        empty = 0 if line.strip() else empty + 1
        if empty > MAX_EMPTY_LINES:
            raise UserError(
                f"{name}:{number}: expected a row, got over {MAX_EMPTY_LINES:,} empty lines; is "
                "the file what it should be?"
            )
        yield f"{name}:{number}", line.removeprefix(BYTE_ORDER_MARK)


def _table(
    lines: Iterable[tuple[str, bytes]], name: str, delimiter: str, bad: BadRows
) -> Iterator[Row]:
    """Rows of a table; a cell in quotation marks may go over several lines."""
    csv.field_size_limit(max(MAX_ROW_BYTES, csv.field_size_limit()))
    row_start = 0

    def texts() -> Iterator[str]:  # an open quotation mark, or a line of commas, takes no minute
        for place, (row_id, line) in enumerate(lines):
            if (
                place - row_start > MAX_ROW_LINES
                or line.count(delimiter.encode()) > MAX_JSON_VALUES
            ):
                raise UserError(
                    f"{name}:{row_start + 1}: expected one row of a table, got over "
                    f"{MAX_ROW_LINES:,} lines or {MAX_JSON_VALUES:,} cells; is a quotation mark "
                    "not closed?"
                )
            yield _text(line, row_id)

    table, columns = csv.reader(texts(), delimiter=delimiter, strict=True), None
    while True:
        row_start = table.line_num
        row_id = f"{name}:{row_start + 1}"
        try:
            cells = next(table, None)
        except csv.Error as error:
            raise UserError(
                f"{row_id}: expected cells parted by {delimiter!r}: {error}; correct the row or "
                "take it out"
            ) from error
        if cells is None:
            return
        if not cells:
            continue  # an empty line
        if columns is None:
            columns = _column_names(cells, row_id)
        elif row := bad.tried(row_id, _table_row, row_id, columns, cells):
            yield row


def _column_names(cells: list[str], row_id: str) -> list[str]:
    if len(cells) > MAX_COLUMNS or len(set(cells)) < len(cells):
        raise UserError(
            f"{row_id}: expected different names of columns, {MAX_COLUMNS:,} at most, got "
            f"{len(cells):,}: {str(cells[:20])[:200]}"
        )
    return cells


def _table_row(row_id: str, columns: list[str], cells: list[str]) -> Row:
    if len(cells) != len(columns):
        raise UserError(
            f"{row_id}: expected {len(columns)} cells, as the first line names, got "
            f"{len(cells)}; correct the row or take it out"
        )
    if sum(map(len, cells)) > MAX_ROW_BYTES:
        raise too_long(row_id)
    return Row(row_id, dict(zip(columns, cells, strict=True)))


def _text(line: bytes, row_id: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{row_id}: expected UTF-8, got the byte 0x{line[error.start]:02x} at column "
            f"{error.start + 1}; read are JSON, JSON lines, CSV, TSV (.gz, .bz2, .xz, too) and "
            "Parquet: convert a file of text to UTF-8"
        ) from error


def bounded_json(raw: bytes) -> Any:
    """The value of a JSON text from anywhere, in bounded time and memory.

    Raises:
        ValueError: it is not UTF-8 or not JSON, or is more than `check_json` lets through.
    """
    check_json(raw)
    return json.loads(raw.decode("utf-8"))


def check_json(
    raw: bytes,
    most_bytes: int = MAX_JSON_BYTES,
    most_values: int = MAX_JSON_VALUES,
    most_depth: int = MAX_JSON_DEPTH,
) -> None:
    """Refuse a JSON text that would take too much to parse; it is not parsed.

    Raises:
        ValueError: it is too long, has too many values, or is nested too deeply.
    """
    if len(raw) > most_bytes:
        raise ValueError(f"it has over {most_bytes:,} bytes")
    outline = raw.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, NO_STRUCTURE)
    outline = outline.replace(b'""', b"")  # texts without structure; what is in a text stays in one
    too_many = outline.count(b'"') > most_values
    outline = outline if too_many else b"".join(outline.split(b'"')[::2])
    if too_many or sum(map(outline.count, (b",", b"[", b"{"))) > most_values:
        raise ValueError(f"it has over {most_values:,} values")
    brackets = outline.replace(b",", b"")
    for _ in range(most_depth):  # each time at least the innermost pairs go
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if len(brackets) > most_depth:
        raise ValueError(f"it is nested more than {most_depth} deep, or is cut off")


def _object(line: bytes, row_id: str) -> Mapping[str, Any]:
    text = _text(line, row_id)
    try:
        value = bounded_json(line)
    except ValueError as error:
        if text.strip() == "[":
            raise UserError(
                f"{row_id}: expected one JSON object per line, got the beginning of an array; "
                "write its objects one a line (jq -c '.[]' FILE)"
            ) from error
        raise UserError(
            f"{row_id}: expected one JSON object per line, got {text[:60].rstrip()!r} ({error}); "
            "correct the line or take it out"
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            f"{row_id}: expected a JSON object, got {type(value).__name__}: "
            f"{repr(value)[:60]}; correct the line or take it out"
        )
    if "\\u" in text and (half := HALF_CHARACTER.search(json.dumps(value, ensure_ascii=False))):
        raise UserError(
            f"{row_id}: expected text, got half a character ({half[0]!r}, one of a pair without "
            "the other); correct the line or take it out"
        )
    return value
