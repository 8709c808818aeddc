"""A model's digest is of every byte of every file that its replies depend on."""

import os
from hashlib import sha256

import pytest

from xmlgrpo_run.digests import digest, file_sha256, model_digest, model_files, weight_files


@pytest.fixture
def run(tmp_path):
    """A base and an adapter, with the tokenizer that was trained with."""
    for name, content in {
        "base/model.safetensors": bytes(3_000_000),
        "base/config.json": b"{}",
        "base/tokenizer.model": b"pieces",
        "base/README.md": b"a model",
        "base/merge.json": b"{}",
        "adapter/adapter_model.safetensors": b"low rank",
        "adapter/adapter_config.json": b'{"lora_alpha": 16}',
        "adapter/tokenizer.json": b"{}",
        "adapter/chat_template.jinja": b"{}",
        "model.gguf": b"GGUF",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def of_run(run) -> str | None:
    return digest(model_files(run / "base", run / "adapter"))


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
        "base/tokenizer.model",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "adapter/tokenizer.json",
        "adapter/chat_template.jinja",
    ],
)
def test_a_changed_byte_anywhere_is_another_model(run, file):
    before = of_run(run)
    assert of_run(run) == before
    flip(run / file)
    assert of_run(run) != before


@pytest.mark.parametrize("file", ["base/README.md", "base/merge.json", "model.gguf"])
def test_files_that_change_no_reply_do_not_count(run, file):
    before = of_run(run)
    flip(run / file)
    assert of_run(run) == before


def test_a_renamed_file_is_another_model_and_a_copy_is_the_same(run, tmp_path):
    before = model_digest(run / "base")
    (run / "base").rename(tmp_path / "elsewhere")
    assert model_digest(tmp_path / "elsewhere") == before
    (tmp_path / "elsewhere" / "model.safetensors").rename(tmp_path / "elsewhere" / "b.safetensors")
    assert model_digest(tmp_path / "elsewhere") != before


def test_of_another_folder_only_the_tokenizer_counts(run):
    names = [path.name for path in model_files(run / "model.gguf", tokenizer=run / "adapter")]
    assert names == ["model.gguf", "chat_template.jinja", "tokenizer.json"]


def test_a_model_of_the_hub_has_no_files_here(tmp_path):
    assert model_files(tmp_path / "org/name", tokenizer=tmp_path / "org/name") == []
    assert digest([]) is None
    assert model_digest(tmp_path / "absent") is None


def test_weights_are_a_folders_safetensors_or_the_file_itself(run):
    assert weight_files(run / "model.gguf") == [run / "model.gguf"]
    assert weight_files(run / "base") == [run / "base" / "model.safetensors"]
    assert weight_files(run / "absent") == []


def test_a_file_is_hashed_once_whatever_it_is_renamed_to(tmp_path):
    path = tmp_path / "partial"
    path.write_bytes(bytes(range(256)) * 40_000)  # more than one piece
    counts: list[int] = []
    first = file_sha256(path, counts.append)
    assert first == sha256(path.read_bytes()).hexdigest()
    assert len(counts) > 1
    assert sum(counts) == path.stat().st_size
    path = path.rename(tmp_path / "final")
    counts.clear()
    assert file_sha256(path, counts.append) == first
    assert counts == [path.stat().st_size], "known: all at once"
    flip(path)
    assert file_sha256(path) == sha256(path.read_bytes()).hexdigest() != first
