import bz2
import gzip
import itertools
import json
import lzma
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from xmlgrpo_rewards import UserError, rows
from xmlgrpo_rewards.rows import Row, bounded_json, count_text_rows, files_of, text_rows


def written(folder: Path, content: bytes) -> Path:
    path = folder / "train.jsonl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b'{"a": 1}\n', [("train.jsonl:1", {"a": 1})], id="one-line"),
        pytest.param(b'{"a": 1}', [("train.jsonl:1", {"a": 1})], id="no-newline-at-the-end"),
        pytest.param(
            b'\n{"a": 1}\n  \n{"a": 2}\n\n',
            [("train.jsonl:2", {"a": 1}), ("train.jsonl:4", {"a": 2})],
            id="empty-lines-count-but-hold-nothing",
        ),
        pytest.param(b'\xef\xbb\xbf{"a": 1}\r\n', [("train.jsonl:1", {"a": 1})], id="windows"),
        pytest.param(
            '{"a": "x\u2028y"}\n'.encode(), [("train.jsonl:1", {"a": "x\u2028y"})], id="u2028"
        ),
        pytest.param(rb'{"a": "\ud83e\udd99"}', [("train.jsonl:1", {"a": "🦙"})], id="pair"),
    ],
)
def test_rows_are_read(tmp_path: Path, content: bytes, expected: list[Row]) -> None:
    assert list(text_rows(written(tmp_path, content))) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "expected at least one row in .*, got an empty file", id="empty"),
        pytest.param(b"\n \n", "got an empty file", id="only-empty-lines"),
        pytest.param(b'{"a": 1}\n{"a": \n', "train.jsonl:2: .*object per line, got", id="cut"),
        pytest.param(b'{"a": 1} {"a": 2}\n', "train.jsonl:1: .*Extra data", id="two-on-a-line"),
        pytest.param(b"question,answer\n", "train.jsonl:1: .*'question,answer'", id="csv"),
        pytest.param(b'\n["q", "a"]\n', "train.jsonl:2: .* got list", id="list"),
        pytest.param(b"3\n", "expected a JSON object, got int: 3", id="number"),
        pytest.param(rb'{"a": ["3 \ud83e"]}', r"train.jsonl:1: .*half a char.*ud83e", id="half"),
        pytest.param(b"null\n", "got NoneType", id="null"),
        pytest.param(b'[\n{"a": 1}\n]\n', "train.jsonl:1: .*array; .*one a line", id="array"),
        pytest.param(b'{"a": "\xff"}\n', "expected UTF-8, got the byte 0xff at column 8", id="ff"),
        pytest.param(b"PAR1\x15\x04\x15", "here expected JSON lines, CSV or TSV", id="parquet"),
        pytest.param('{"a": 1}'.encode("utf-16"), "expected UTF-8", id="utf-16"),
        pytest.param(b"[" * 100_000, "train.jsonl:1: expected one JSON object", id="deep"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", "train.jsonl:1", id="5000-digits"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UserError, match=said):
        list(text_rows(written(tmp_path, content)))


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        pytest.param("a.jsonl", '{"q": 1}', ["{", "[1]", "x", '{"q": "\\ud800"}'], id="json"),
        pytest.param("a.csv", "q,a", ["1", "1,2,3"], id="csv"),
    ],
)
def test_every_broken_row_is_named_at_once(
    tmp_path: Path, name: str, good: str, bad: list[str]
) -> None:
    path = tmp_path / name
    path.write_text("\n".join(line for broken in bad for line in (good, broken)) + "\n")
    with pytest.raises(UserError) as caught:
        list(text_rows(path))
    first, *others = [f"{name}:{2 * n}" for n in range(1, len(bad) + 1)]
    assert str(caught.value).startswith(f"{first}: expected ")
    assert str(caught.value).endswith(f"bad, too: {', '.join(others)}")


def test_a_file_of_nothing_but_broken_rows_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{\n" * 100)
    with pytest.raises(UserError, match=r"9 other rows .*a.jsonl:10, and maybe more after them$"):
        list(text_rows(path))


def test_a_line_without_end_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_ROW_BYTES", 100)
    path = written(tmp_path, b'{"a": "' + b"x" * 94 + b'"}')
    with pytest.raises(
        UserError, match=r"train.jsonl:1: expected one row, got one of over 100 bytes"
    ):
        list(text_rows(path))


def test_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"nothing.jsonl': No such file or directory; check the path"
    ):
        list(text_rows(tmp_path / "nothing.jsonl"))


def test_a_folder_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Is a directory"):
        list(text_rows(tmp_path))


TABLE = 'question,answer\r\n"A box, 3 ""pens""","4 + 3\n#### 7"\r\n\r\nb,#### 8\r\n'
CELLS = [
    ("rows.csv:2", {"question": 'A box, 3 "pens"', "answer": "4 + 3\n#### 7"}),
    ("rows.csv:5", {"question": "b", "answer": "#### 8"}),
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("rows.csv", TABLE.encode(), id="plain"),
        pytest.param("rows.csv", b"\xef\xbb\xbf" + TABLE.encode(), id="byte-order-mark"),
        pytest.param("rows.csv", TABLE.encode()[:-2], id="no-newline-at-the-end"),
        pytest.param("rows.csv.gz", gzip.compress(TABLE.encode()), id="gzip"),
        pytest.param("Rows.CSV", TABLE.encode(), id="capital-letters"),
        pytest.param("rows.csv", gzip.compress(TABLE.encode()), id="gzip-without-its-ending"),
        pytest.param("rows.csv.bz2", bz2.compress(TABLE.encode()), id="bzip2"),
        pytest.param("rows.csv.xz", lzma.compress(TABLE.encode()), id="xz"),
        pytest.param(
            "rows.tsv",
            TABLE.replace("n,a", "n\ta").replace('","', '"\t"').replace("b,", "b\t").encode(),
            id="tabs",
        ),
    ],
)
def test_the_cells_of_a_table_are_rows(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    expected = [(row_id.replace("rows.csv", name), fields) for row_id, fields in CELLS]
    assert list(text_rows(path)) == expected
    assert count_text_rows(path) == 2


def test_a_cell_of_a_megabyte_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"question,answer\n{'x' * 1_000_000},#### 1\n")
    assert [len(row.fields["question"]) for row in text_rows(path)] == [1_000_000]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param("a.csv", b"q,a\nx,1\ny\n", r"a\.csv:3: expected 2 cells.*got 1", id="few"),
        pytest.param("a.csv", b"q,a\nx,1,2\n", r"a\.csv:2: expected 2 cells.*got 3", id="many"),
        pytest.param("a.csv", b'q,a\nx,1\n"y,2\nz,3\n', r"a\.csv:3: .*unexpected end", id="quote"),
        pytest.param("a.csv", b'q,a\n"x"y,2\n', r"a\.csv:2: .*expected after", id="after-a-quote"),
        pytest.param("a.csv", b"q,q\nx,1\n", r"a\.csv:1: expected different names", id="twice"),
        pytest.param(
            "a.csv", b'q\n"' + b"x\n" * 10**6, r"a\.csv:2: .*100,000 lines", id="open-quote"
        ),
        pytest.param("a.csv", b"," * 9_000_000, r"a\.csv:1: .*500,000 cells", id="commas"),
        pytest.param("a.csv", b"%b\n1\n" % bytes(b"q," * 20_000), "10,000 .*20,001", id="columns"),
        pytest.param("a.csv", b"q,a\nx,\xff\n", r"a\.csv:2: expected UTF-8.*0xff at col", id="ff"),
        pytest.param("a.csv", b"q,a\n", "at least one row", id="names-only"),
        pytest.param("a.tsv", "q\ta\n".encode("utf-16"), r"a\.tsv:1: expected UTF-8", id="utf-16"),
        pytest.param(
            "a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 99)[:-9], "cannot be unpacked", id="cut"
        ),
        pytest.param("a.jsonl", b"\x1f\x8b\x08junk", "a.jsonl cannot be unpacked", id="junk"),
        pytest.param("a.jsonl.xz", lzma.compress(b"{}")[:20], "cannot be unpacked", id="cut-xz"),
        pytest.param("a.parquet", b"{}\n", "training, evaluation and export read", id="parquet"),
    ],
)
def test_a_broken_table_or_package_is_named(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        list(text_rows(tmp_path / name))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_a_packed_line_without_end_is_not_unpacked_to_its_end(tmp_path: Path, name: str) -> None:
    with gzip.open(tmp_path / name, "wb") as file:
        for _ in range(100):
            file.write(b"a" * 1_000_000)
    with pytest.raises(UserError, match=f"{name}:1: expected one row, got one of over 10,000,000"):
        list(text_rows(tmp_path / name))


@pytest.mark.parametrize(
    ("there", "train"),
    [
        pytest.param(["train.jsonl", "train.csv", "test.jsonl"], ["train.jsonl"], id="json-first"),
        pytest.param(["train.csv.gz", "README.md"], ["train.csv.gz"], id="packed-table"),
        pytest.param(
            ["main/train-00000-of-00001.parquet", "socratic/train-00000-of-00001.parquet"],
            ["main/train-00000-of-00001.parquet"],
            id="the-configuration-of-a-hub-folder",
        ),
        pytest.param(
            ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
            ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
            id="parts",
        ),
        pytest.param(
            [
                "default/train/0000.parquet",
                "default/train/0001.parquet",
                "default/test/0000.parquet",
            ],
            ["default/train/0000.parquet", "default/train/0001.parquet"],
            id="the-hub's-own-parquet",
        ),
        pytest.param([".cache/train.jsonl", "x/train.json"], ["x/train.json"], id="hidden"),
    ],
)
def test_a_folder_means_the_files_of_its_split(
    tmp_path: Path, there: list[str], train: list[str]
) -> None:
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert files_of(tmp_path, "train", "data.path", "main") == [tmp_path / name for name in train]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        pytest.param(["test.jsonl", "trainer.jsonl"], "no file at .*folder with train", id="none"),
        pytest.param(["a/train.csv", "b/train.csv"], "a, b in .* all hold a split", id="folders"),
        pytest.param(["train.csv", "train.tsv"], "several files.*train.csv, train.tsv", id="forms"),
        pytest.param(
            ["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"],
            "expected 3 files.*got 2; fetch",
            id="a-part-is-missing",
        ),
    ],
)
def test_a_folder_that_leaves_a_choice_is_refused(
    tmp_path: Path, there: list[str], said: str
) -> None:
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"^data.path: .*{said}"):
        files_of(tmp_path, "train", "data.path")


def test_the_home_of_the_user_and_of_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.csv").touch()
    assert files_of(Path("~/rows.csv"), "train", "data.path") == [tmp_path / "rows.csv"]
    with pytest.raises(UserError, match=r"data\.path: '~nobody-here/x': .*; write the path out"):
        files_of(Path("~nobody-here/x"), "train", "data.path")


PIECES = ("[", "]", "{", "}", ",", ":", '"', "\\", "\\\\", '\\"', "é", "x", " ", "\n")


def test_what_stands_in_texts_is_no_structure() -> None:
    for pieces in itertools.product(PIECES, repeat=3):
        text = "".join(pieces)
        value = {text: [text, {"a" + text: {}}], "more": [[], text * 40, 1.5, None]}
        assert bounded_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("[" * 64 + "]" * 64, None, id="as-deep-as-may-be"),
        pytest.param("[" * 150 + "]" * 150, "nested", id="deeper"),
        pytest.param('["' + "[" * 500 + '"]', None, id="brackets-in-a-text"),
        pytest.param('[""' + ',"["' * 500 + "]", None, id="brackets-in-many-texts"),
        pytest.param('["\\\\"' + ",[" * 500 + "]" * 501, "nested", id="after-a-backslash"),
        pytest.param('["\\\\\\"' + ",[" * 500 + '"]', None, id="after-an-escaped-quote"),
    ],
)
def test_the_depth_of_json_is_measured_outside_of_its_texts(text: str, told: str | None) -> None:
    if told is None:
        assert isinstance(bounded_json(text.encode()), list)
        return
    with pytest.raises(ValueError, match=told):
        bounded_json(text.encode())


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_pipe_is_read_once(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    pipe = tmp_path / "rows.jsonl"
    os.mkfifo(pipe)
    writing = threading.Thread(target=pipe.write_bytes, args=[pack(b'{"a": 1}\n')])
    writing.start()
    assert list(text_rows(pipe)) == [("rows.jsonl:1", {"a": 1})]
    writing.join()


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_a_small_file_of_very_many_rows_is_refused_early(tmp_path: Path, name: str) -> None:
    with gzip.open(tmp_path / name, "wb") as file:
        for _ in range(100):
            file.write(b'{"a":1}\n' * 100_000)
    with pytest.raises(UserError, match=r"unpacks to over 100 times its size"):
        next(text_rows(tmp_path / name))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_file_of_very_many_small_pieces_is_refused_early(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "a.jsonl").write_bytes(pack(b"") * 300_000)
    with pytest.raises(UserError, match=r"packed in over 20,000 pieces of under 500 bytes"):
        next(text_rows(tmp_path / "a.jsonl"))
