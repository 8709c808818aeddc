from pathlib import Path

import pytest

from xmlgrpo_rewards import UserError, rows
from xmlgrpo_rewards.rows import Row, read_jsonl


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
    assert list(read_jsonl(written(tmp_path, content))) == expected


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
        pytest.param(b'{"a": "\xff"}\n', "expected UTF-8, got the byte 0xff at column 8", id="ff"),
        pytest.param(b"PAR1\x15\x04\x15", "train.jsonl:1", id="parquet"),
        pytest.param('{"a": 1}'.encode("utf-16"), "expected UTF-8", id="utf-16"),
        pytest.param(b"[" * 100_000, "train.jsonl:1: expected one JSON object", id="deep"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", "train.jsonl:1", id="5000-digits"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UserError, match=said):
        list(read_jsonl(written(tmp_path, content)))


def test_a_line_without_end_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_LINE_BYTES", 100)
    path = written(tmp_path, b'{"a": "' + b"x" * 94 + b'"}')
    with pytest.raises(UserError, match=r"train.jsonl:1: .* a line of over 100 bytes"):
        list(read_jsonl(path))


def test_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"nothing.jsonl': No such file or directory; check the path"
    ):
        list(read_jsonl(tmp_path / "nothing.jsonl"))


def test_a_folder_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Is a directory"):
        list(read_jsonl(tmp_path))
