"""Which bytes?  Digests of files and models, and whether they are still what they were.

A result names what it was measured on.  A disk, a copy that was cut off or an editor changes bytes
without a word: what a run goes on from, and what its numbers are taken from, is known by its bytes.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.screen.progress import Stage

TOKENIZER = (
    *("tokenizer*", "*.jinja"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.json"),
)
MODEL = ("*.safetensors", "*.safetensors.index.json", "*config.json", *TOKENIZER)
"""What a model's replies depend on: its weights, its settings, its tokenizer."""
PIECE_BYTES = 8 << 20

OnBytes = Callable[[int], None]  # called with how many more bytes have been read


def model_files(*places: Path, tokenizer: Path | None = None) -> list[Path]:
    """The files that a model's replies depend on.

    Args:
        places: its folder or GGUF file, and its adapter's folder; a place that is not there, such
            as an id on the Hub, has no files.
        tokenizer: the folder that the tokenizer is read from, where that is not one of these.
    """
    return [
        path
        for place, patterns in [*((place, MODEL) for place in places), (tokenizer, TOKENIZER)]
        if place is not None
        for path in _matching(place, patterns)
    ]


def weight_files(place: Path) -> list[Path]:
    """The files that hold the weights of a model or an adapter: a folder's, or the file itself."""
    return _matching(place, ("*.safetensors",))


def _matching(place: Path, patterns: Iterable[str]) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted({path for pattern in patterns for path in place.glob(pattern)})


def digest(files: Iterable[Path], sha256_of: Callable[[Path], str] | None = None) -> str | None:
    """One digest of the files' names and bytes, in this order; None without a file.

    Args:
        sha256_of: gives a file's hash, for one who knows it already.
    """
    lines = [json.dumps([path.name, (sha256_of or file_sha256)(path)]) for path in files]
    return sha256("\n".join(lines).encode()).hexdigest() if lines else None


def model_digest(folder: Path) -> str | None:
    """The digest of a model or adapter that stands in one folder; None where none stands."""
    return digest(model_files(folder))


# Gigabytes are hashed once a process, whatever they are renamed to; size and time tell a file that
# has changed since.
_known: dict[tuple[int, int, int, int], str] = {}


def file_sha256(path: Path, on_bytes: OnBytes = lambda _count: None) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal.

    Args:
        on_bytes: called with how many more bytes have been read; for a known file, once.

    Raises:
        UserError: it cannot be read.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UserError(f"cannot read {path}: it is not a file")
    try:
        state = path.stat()
        key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
        if key in _known:
            on_bytes(state.st_size)
            return _known[key]
        found = sha256()
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                found.update(piece)
                on_bytes(len(piece))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return _known.setdefault(key, found.hexdigest())


def hash_ahead(files: Iterable[Path], console: Console, words: str = "hashing") -> None:
    """Hash files behind a bar; whoever asks for their hashes afterwards is answered at once."""
    files = sorted(set(files))
    total = sum(path.stat().st_size for path in files)
    with byte_stage(console, words, total) as on_bytes:
        for path in files:
            file_sha256(path, on_bytes)


@contextmanager
def byte_stage(console: Console, words: str, total: int) -> Iterator[OnBytes]:
    """A stage whose bar is moved by calls with how many more bytes have been read."""
    with Stage(console, words, total=total, unit="bytes") as stage:
        done = 0

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            stage.update(done)

        yield on_bytes


def file_hashes(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of files, by their path from the folder."""
    return {str(path.relative_to(folder)): file_sha256(path) for path in sorted(paths)}


def damage(folder: Path, hashes: Mapping[str, str]) -> str | None:
    """What is wrong with the first file that is not as `file_hashes` found it; None if all are."""
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():  # a pipe would be waited for
            return f"{path} is {'not a file' if path.exists() else 'missing'}"
        try:
            if file_sha256(path) != expected:
                return f"{path} is damaged or was changed: its sha256 is another"
        except UserError as error:
            return str(error)
    return None


def stamps(folder: Path, paths: Iterable[Path]) -> dict[str, Any]:
    """The hash, size and time of large files that do not change, for `changed_since`."""
    hashes = file_hashes(folder, paths)
    return {
        name: {"sha256": found, **_size_and_time(folder / name)} for name, found in hashes.items()
    }


def changed_since(folder: Path, stamped: Mapping[str, Any]) -> str | None:
    """As `damage`, but a file whose size and time are what they were is not read again."""
    asked = {}
    for name, stamp in stamped.items():
        path = folder / name
        if not path.is_file() or {"sha256": stamp["sha256"], **_size_and_time(path)} != stamp:
            asked[name] = stamp["sha256"]
    return damage(folder, asked)


def _size_and_time(path: Path) -> dict[str, int]:
    state = path.stat()
    return {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
