"""A weights file is read by its header, and a broken one is told."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.safetensors_header import tensor_shapes


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file({"a.weight": torch.zeros(2, 3), "b": torch.zeros(5)}, path, metadata={"format": "pt"})
    return path


def test_names_and_shapes_are_those_that_were_written(whole: Path) -> None:
    assert tensor_shapes(whole) == {"a.weight": (2, 3), "b": (5,)}


def headed(header: object, tail: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tail


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"", "got an empty file", id="empty"),
        pytest.param(b"\x80\x02}q", "got other bytes", id="a-pickle"),
        pytest.param(b"\x00" * 64, "got other bytes", id="zeros"),
        pytest.param(b"PK\x03\x04" + b"x" * 60, "got other bytes", id="a-zip"),
        pytest.param(headed([1, 2]), "got other bytes", id="a-list"),
        pytest.param(headed({"a": 1}), "got other bytes", id="no-entry"),
        pytest.param(
            headed({"a": {"shape": [2], "data_offsets": [0, float("inf")]}}),
            "got other bytes",
            id="an-end-that-is-none",
        ),
        pytest.param(
            headed({"a": {"shape": [2], "data_offsets": [0, 8]}}, b"1234"),
            "promises 61 bytes, the file has 57",
            id="cut-short",
        ),
    ],
)
def test_a_broken_file_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=told):
        tensor_shapes(path)


@pytest.mark.parametrize("kept", [7, 8, 60, 0.5, -1])
def test_a_file_cut_anywhere_is_told(whole: Path, kept: float) -> None:
    content = whole.read_bytes()
    whole.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(UserError, match="Write it again"):
        tensor_shapes(whole)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        tensor_shapes(tmp_path / "none.safetensors")
