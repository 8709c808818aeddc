"""What tells a model from every other: all bytes of its files."""

import json
from collections.abc import Sequence
from functools import cache
from hashlib import file_digest, sha256
from pathlib import Path

from xmlgrpo_rewards.weights_digest import weights_of

SETTINGS_FILES = ("config.json", "generation_config.json", "adapter_config.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""Beside the weights, these change what a model says."""


def model_files(source: Path, *, adapter: Path | None = None, tokenizer: Path) -> list[Path]:
    """The files that a model's replies depend on, in the order in which they are digested.

    Args:
        source: folder or file of the weights; of a Hub id, which is no place here, nothing counts.
        adapter: folder of a LoRA adapter on top.
        tokenizer: the folder that the tokenizer is read from.
    """
    places = [source] if adapter is None else [source, adapter]
    settings = [place / name for place in places for name in SETTINGS_FILES]
    settings += [tokenizer / name for name in TOKENIZER_FILES]
    weights = [path for place in places for path in weights_of(place)]
    return weights + [path for path in settings if path.is_file()]


def content_digest(files: Sequence[Path]) -> str | None:
    """A digest of names and contents; None without a file."""
    if not files:
        return None
    digest = sha256()
    for path in files:
        state = path.stat()
        content = _file_digest(path.resolve(), state.st_size, state.st_mtime_ns)
        digest.update(json.dumps([path.name, content]).encode())
    return digest.hexdigest()


@cache
def _file_digest(path: Path, _size: int, _mtime_ns: int) -> str:
    """SHA-256 of a file; size and time tell a file that has changed since it was read."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
