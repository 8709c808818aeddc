"""Bytes that changed since they were written are found, whatever changed them."""

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import damage, file_hashes
from xmlgrpo_run.files import SEAL, read_sealed, write_sealed

CONTENT = {"step": 3, "accuracy": 0.1 + 0.2, "items": [{"reply": "½ <answer>"}], "none": None}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", CONTENT)
    assert read_sealed(tmp_path / "a.json") == CONTENT
    write_sealed(tmp_path / "b.json", dict(reversed(CONTENT.items())))
    assert read_sealed(tmp_path / "b.json") == CONTENT


def test_every_changed_byte_is_found_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, CONTENT)
    written = path.read_bytes()
    for place in range(len(written)):
        path.write_bytes(written[:place] + bytes([written[place] ^ 1]) + written[place + 1 :])
        with suppress(UserError):
            assert read_sealed(path) == CONTENT  # a blank that became another one


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({**CONTENT, "step": 4}, id="no-seal"),
        pytest.param({**CONTENT, SEAL: "ab" * 32}, id="another-seal"),
        pytest.param({**CONTENT, SEAL: ["ab"]}, id="a-seal-of-another-type"),
    ],
)
def test_an_edited_file_is_refused_by_name(tmp_path: Path, changed: object) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(changed))
    with pytest.raises(UserError, match=rf"{path} is damaged or was changed.*restore it"):
        read_sealed(path)


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        pytest.param(lambda path: path.write_bytes(b"weightt"), "was changed", id="flipped"),
        pytest.param(lambda path: path.write_bytes(b"weigh"), "was changed", id="cut"),
        pytest.param(lambda path: path.write_bytes(b""), "was changed", id="empty"),
        pytest.param(lambda path: path.unlink(), "is missing", id="gone"),
        pytest.param(lambda path: replaced(path, Path.mkdir), "is not a file", id="folder"),
        pytest.param(lambda path: replaced(path, os.mkfifo), "is not a file", id="pipe"),
        pytest.param(
            lambda path: replaced(path, lambda p: p.symlink_to(p.name)), "is missing", id="loop"
        ),
        pytest.param(
            lambda path: replaced(path, lambda p: p.symlink_to("/proc/self/mem")),
            "cannot read .*: Input/output error",
            id="input-output-error",
        ),
    ],
)
def test_a_damaged_file_is_named(
    tmp_path: Path, harm: Callable[[Path], object], words: str
) -> None:
    (tmp_path / "in").mkdir()
    paths = [tmp_path / "in" / "weights", tmp_path / "settings"]
    for path in paths:
        path.write_bytes(b"weights")
    hashes = file_hashes(tmp_path, paths)
    assert damage(tmp_path, hashes) is None
    harm(paths[0])
    found = damage(tmp_path, hashes) or ""
    assert str(paths[0]) in found
    assert re.search(words, found)
    assert list(hashes) == ["in/weights", "settings"]
