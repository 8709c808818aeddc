"""A file or folder is written whole or not at all, and what is no JSON object is a user's error."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import check_small_files, read_json, replacing, write_json, write_text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, r"expected .*x\.json, found none", id="missing"),
        pytest.param(b'{"a": 1', r"x\.json is not JSON \(.*\); restore it", id="cut"),
        pytest.param(b"\xff\xfe", r"x\.json is not JSON", id="not-utf-8"),
        pytest.param(b"[" * 100_000, r"cannot read .*x\.json: .* nested", id="too-deep"),
        pytest.param(b"[1]", r"x\.json: expected a JSON object, got list", id="a-list"),
    ],
)
def test_what_is_no_json_object_is_a_user_error(tmp_path: Path, content, words: str) -> None:
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_json(tmp_path / "x.json")


def test_an_adapter_whose_pattern_would_never_end_is_refused(tmp_path: Path) -> None:
    for pattern in (r".*language_model.*\.(q_proj|v_proj)", ["q_proj"], "(unclosed+", None):
        write_json(tmp_path / "adapter_config.json", {"target_modules": pattern})
        read_json(tmp_path / "adapter_config.json")
    write_json(tmp_path / "adapter_config.json", {"layers_pattern": ["(a|a)*.*(.*.*)*z"]})
    for read in (check_small_files, lambda folder: read_json(folder / "adapter_config.json")):
        with pytest.raises(UserError, match=r"adapter_config\.json: .* a pattern that takes over"):
            read(tmp_path)


def test_a_folder_in_place_of_a_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*: it is not a file"):
        read_json(tmp_path)


def test_writing_makes_the_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.json"
    write_json(path, {"é": [1, None]})
    write_json(path, {"é": 2})
    assert path.read_text(encoding="utf-8") == '{\n  "é": 2\n}\n'
    assert read_json(path) == {"é": 2}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"share": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"share": float("nan")})
    assert read_json(path) == {"share": 0.5}


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def _write_folder(folder: Path, *names: str) -> None:
    with replacing(folder) as partial:
        partial.mkdir()
        for name in names:
            (partial / name).write_text(name)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    _write_folder(tmp_path / "adapter", "a", "b")
    _write_folder(tmp_path / "adapter", "c")
    assert _names(tmp_path / "adapter") == ["c"]
    assert _names(tmp_path) == ["adapter"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    _write_folder(tmp_path / "adapter", "a")
    with pytest.raises(FileNotFoundError):
        _write_folder(tmp_path / "adapter", "b", "no-folder/c")
    assert _names(tmp_path / "adapter") == ["a"]
    assert _names(tmp_path) == ["adapter"]


@pytest.mark.parametrize("is_link", [False, True])
def test_a_file_never_replaces_a_folder(tmp_path: Path, is_link: bool) -> None:
    kept = tmp_path / "mine" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("of years")
    named = tmp_path / "link" if is_link else kept.parent
    if is_link:
        named.symlink_to(kept.parent)
    with pytest.raises(UserError, match="is a folder; expected the name of a file"):
        write_text(named, "page")
    assert kept.read_text() == "of years"
    assert len(list(tmp_path.iterdir())) == 1 + is_link, "nothing is left of the new one"


def test_what_is_not_made_or_is_moved_away_replaces_nothing(tmp_path: Path) -> None:
    _write_folder(tmp_path / "merged", "a")
    with replacing(tmp_path / "merged") as partial:
        partial.mkdir()
        partial.rename(tmp_path / "merged.rejected")
    assert _names(tmp_path / "merged") == ["a"]


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys\n"
        "from xmlgrpo_run.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as partial:\n"
        "    partial.mkdir()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, tmp_path / "merged"], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(_names(tmp_path)) == 1
    (tmp_path / f".merged.{os.getppid()}.partial").mkdir()  # of a process that still runs
    (tmp_path / ".merged-too.1.partial").mkdir()  # of another name
    _write_folder(tmp_path / "merged", "a")
    assert _names(tmp_path) == [
        ".merged-too.1.partial",
        f".merged.{os.getppid()}.partial",
        "merged",
    ]
