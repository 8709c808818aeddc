"""What tells a model from every other: all bytes of its files."""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from xmlgrpo_run.weights_digest import weights_of

SETTINGS_FILES = ("config.json", "generation_config.json", "adapter_config.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""Beside the weights, these change what a model says."""
PIECE_BYTES = 8 << 20

OnBytes = Callable[[int], None]  # told how many more bytes have been read


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
        digest.update(json.dumps([path.name, file_sha256(path)]).encode())
    return digest.hexdigest()


# Gigabytes are hashed once a process, whatever they are renamed to; size and time tell a file that
# has changed since.
_known: dict[tuple[int, int, int, int], str] = {}


def file_sha256(path: Path, on_bytes: OnBytes = lambda _count: None) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal.

    Args:
        path: the file.
        on_bytes: told how many more bytes have been read; of a file that is known, all at once.
    """
    state = path.stat()
    key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    if key in _known:
        on_bytes(state.st_size)
        return _known[key]
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            on_bytes(len(piece))
    return _known.setdefault(key, digest.hexdigest())
