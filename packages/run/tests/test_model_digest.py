"""A model's content is every byte of every file that its replies depend on."""

import json
import os
from hashlib import sha256

import pytest

from xmlgrpo_run.model_digest import content_digest, file_sha256, model_files
from xmlgrpo_run.weights_digest import SAMPLED_BYTES, weights_digest, weights_of

SIZE = 3 * SAMPLED_BYTES


@pytest.fixture
def run(tmp_path):
    """A base and an adapter, with the tokenizer that was trained with."""
    for name, content in {
        "base/model.safetensors": bytes(SIZE),
        "base/config.json": b"{}",
        "base/README.md": b"a model",
        "adapter/adapter_model.safetensors": b"low rank",
        "adapter/adapter_config.json": json.dumps({"lora_alpha": 16}).encode(),
        "adapter/tokenizer.json": b"{}",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def digest(run) -> str | None:
    adapter = run / "adapter"
    return content_digest(model_files(run / "base", adapter=adapter, tokenizer=adapter))


def flip(path) -> None:
    """Change one bit in the middle of a file, and its time, so that no digest is remembered."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))


@pytest.mark.parametrize(
    "file",
    [
        "base/model.safetensors",
        "base/config.json",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "adapter/tokenizer.json",
    ],
)
def test_a_changed_byte_anywhere_is_another_model(run, file):
    before, ends = digest(run), weights_digest(weights_of(run / "base"))
    assert digest(run) == before
    flip(run / file)
    assert digest(run) != before
    assert weights_digest(weights_of(run / "base")) == ends, "the ends alone do not tell"


def test_files_that_change_no_reply_do_not_count(run):
    before = digest(run)
    flip(run / "base/README.md")
    assert digest(run) == before


def test_a_model_of_the_hub_has_no_files_here(tmp_path):
    assert model_files(tmp_path / "org/name", tokenizer=tmp_path / "org/name") == []
    assert content_digest([]) is None


def test_a_file_is_hashed_once_whatever_it_is_renamed_to(tmp_path):
    path = tmp_path / "partial"
    path.write_bytes(bytes(range(256)) * 40_000)  # more than one piece
    told = []
    first = file_sha256(path, told.append)
    assert first == sha256(path.read_bytes()).hexdigest()
    assert len(told) > 1
    assert sum(told) == path.stat().st_size
    path = path.rename(tmp_path / "final")
    told.clear()
    assert file_sha256(path, told.append) == first
    assert told == [path.stat().st_size], "known: told at once"
    flip(path)
    assert file_sha256(path) == sha256(path.read_bytes()).hexdigest() != first
