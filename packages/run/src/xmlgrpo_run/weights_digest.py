"""Which weights?  A result names what it was measured on, so that it cannot stand for others."""

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

SAMPLED_BYTES = 1 << 20


def weights_of(place: Path) -> list[Path]:
    """The files that hold a model's or adapter's weights: a folder's, or the file itself."""
    if place.is_file():
        return [place]
    return sorted(place.glob("*.safetensors")) if place.is_dir() else []


def weights_digest(files: Iterable[Path]) -> str | None:
    """A digest of the names, sizes and both ends of files; None of no files.

    Hashing gigabytes takes minutes, and other weights differ at their ends too.
    """
    digest, any_there = sha256(), False
    for path in files:
        any_there, size = True, path.stat().st_size
        digest.update(json.dumps([path.name, size]).encode())
        with path.open("rb") as file:
            digest.update(file.read(SAMPLED_BYTES))
            file.seek(max(0, size - SAMPLED_BYTES))
            digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest() if any_there else None
