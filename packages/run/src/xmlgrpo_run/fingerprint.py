"""Which bytes?  The hash of a model folder, so that an artefact names its source."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from xmlgrpo_run.model_digest import OnBytes, file_sha256
from xmlgrpo_run.screen.progress import Stage

MODEL_FILES = ("*.safetensors", "*config.json", "tokenizer*", "*.jinja")


def fingerprint(folder: Path) -> str:
    """One hash for a model folder: weights, configuration, tokenizer and chat template."""
    digest = hashlib.sha256()
    for path in model_files(folder):
        digest.update(f"{path.name}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def model_files(folder: Path) -> list[Path]:
    """The files that a model folder's fingerprint is of; none of a folder that is not there."""
    return sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})


def hash_ahead(files: Iterable[Path], console: Console, words: str = "hashing") -> None:
    """Hash files behind a bar; whoever asks for their hashes afterwards is answered at once."""
    files = sorted(set(files))
    total = sum(path.stat().st_size for path in files)
    with byte_stage(console, words, total) as on_bytes:
        for path in files:
            file_sha256(path, on_bytes)


@contextmanager
def byte_stage(console: Console, words: str, total: int) -> Iterator[OnBytes]:
    """A stage that is told how many more bytes have been read."""
    with Stage(console, words, total=total, unit="bytes") as stage:
        done = 0

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            stage.update(done)

        yield on_bytes
