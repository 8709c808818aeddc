"""Rows in Parquet; the text forms are tested where they are read, in rewards."""

import random
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run import rows
from xmlgrpo_run.rows import count_rows, read_rows

FIELDS = [{"question": f"{n} + 1? 苹果", "answer": f"#### {n + 1}"} for n in range(600)]


def written(path: Path, columns: dict[str, pa.Array]) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def table(path: Path) -> Path:
    return written(path, {name: pa.array([r[name] for r in FIELDS]) for name in FIELDS[0]})


@pytest.mark.parametrize("name", ["train-00000-of-00001.parquet", "blob-of-a-cache"])
def test_every_row_is_read_in_its_order(tmp_path: Path, name: str) -> None:
    path = table(tmp_path / name)
    assert list(read_rows(path)) == [(f"{name}:{n}", row) for n, row in enumerate(FIELDS, start=1)]
    assert count_rows(path) == 600


def test_files_follow_each_other_whatever_their_forms(tmp_path: Path) -> None:
    text = tmp_path / "more.jsonl"
    text.write_text('{"question": "q", "answer": "#### 1"}\n')
    read = [row.id for row in read_rows(table(tmp_path / "a.parquet"), text)]
    assert (read[0], read[-2], read[-1]) == ("a.parquet:1", "a.parquet:600", "more.jsonl:1")
    assert count_rows(text) == 1


def test_bytes_that_are_no_text_are_named_by_row(tmp_path: Path) -> None:
    surrogate = b"half \xed\xa0\xbd"  # what some writers make of half a character
    texts = pa.array([b"fine", surrogate]).view(pa.binary()).view(pa.string())
    with pytest.raises(UserError, match=r"a\.parquet:2: expected UTF-8, got the byte 0xed"):
        list(read_rows(written(tmp_path / "a.parquet", {"question": texts})))


def test_a_row_without_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 1000)
    path = written(tmp_path / "a.parquet", {"question": pa.array(["short", "x" * 2000])})
    with pytest.raises(UserError, match=r"a\.parquet:2: expected one row, got one of over"):
        list(read_rows(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "cannot be read as Parquet: .*; fetch the file again", id="empty"),
        pytest.param(b"PAR1" + b"\0" * 99, "cannot be read as Parquet", id="cut"),
        pytest.param(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "cannot be read as Parquet",
            id="pointer-of-git-lfs",
        ),
    ],
)
def test_what_is_no_parquet_is_a_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(UserError, match=said):
        list(read_rows(tmp_path / "a.parquet"))


def test_damaged_pages_are_a_sentence(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet")
    content = bytearray(path.read_bytes())
    content[8:200] = b"\xff" * 192
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.parquet cannot be read as Parquet"):
        list(read_rows(path))


def test_whatever_byte_is_wrong_it_is_a_sentence(tmp_path: Path) -> None:
    columns = {"question": pa.array(["q"] * 9), "answer": pa.array(["#### 1"] * 9)}
    whole = written(tmp_path / "a.parquet", columns).read_bytes()
    draw = random.Random(0)  # noqa: S311 - the same damage every time
    read = refused = 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 6)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        (tmp_path / "a.parquet").write_bytes(content)
        try:
            read += len(list(read_rows(tmp_path / "a.parquet"))) > 0
        except UserError:
            refused += 1
    assert read + refused == 300
    assert refused > 100


def test_no_rows_and_no_file_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one row"):
        list(read_rows(written(tmp_path / "a.parquet", {"question": pa.array([], pa.string())})))
    with pytest.raises(UserError, match="No such file"):
        list(read_rows(tmp_path / "none.parquet"))


def test_without_pyarrow_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pip install pyarrow, or convert"):
        list(read_rows(path))


def test_a_small_file_of_very_long_rows_is_refused_unread(tmp_path: Path) -> None:
    texts = pa.array([str(n) + "x" * 5_000_000 for n in range(10)])
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"question": texts}), path, compression="zstd")
    assert path.stat().st_size < 400_000
    with pytest.raises(UserError, match=r"a\.parquet unpacks to over 100 times its size"):
        next(read_rows(path))
