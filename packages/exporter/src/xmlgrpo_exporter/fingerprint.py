"""Which bytes?  Hashes of files and of model folders, so that an artefact names its source."""

import hashlib
from pathlib import Path

CHUNK_BYTES = 1 << 20
MODEL_FILES = ("*.safetensors", "*config.json", "tokenizer*", "*.jinja")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(folder: Path) -> str:
    """One hash for a model folder: weights, configuration, tokenizer and chat template."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)}):
        digest.update(f"{path.name}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()
