"""The upload as a list: every file with its target, kind, size and sha256, before a byte is sent.

The plan is what the dry run prints, what is uploaded, and what is compared with the repository
afterwards.  Two plans with the same files have the same `digest`; it names the tag.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xmlgrpo_exporter.upload.artefacts import Artefact
from xmlgrpo_exporter.upload.secrets import SecretSearch
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import OnBytes

PIECE_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file of the upload.

    Attributes:
        target: its path in the repository.
        kind: what it is, in a word: `weights`, `tokenizer`, `card`, ...
        content: the file on disk, or the bytes of a text made for the upload.
        size: in bytes.
        sha256: of the content, in hexadecimal.
    """

    target: str
    kind: str
    content: Path | bytes
    size: int
    sha256: str

    def read(self) -> bytes:
        """The whole content; for small files."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True, slots=True)
class Plan:
    """The files to upload, by target; and those that stay at home."""

    files: tuple[PlannedFile, ...]
    stay: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """A hash of what the repository will hold: the targets and their contents."""
        lines = "".join(f"{file.sha256}  {file.target}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()


def target_of(artefact: Artefact, path: Path, *, alone: bool) -> str:
    """Where a file goes: merged weights and GGUFs to the top, where their users look for them.

    The adapter goes to the top only when it goes without merged weights: `transformers` takes an
    `adapter_config.json` beside a `config.json` for the model's adapter and would apply it to
    weights that already hold it.
    """
    if artefact.name in ("merged", "gguf") or (artefact.name == "adapter" and alone):
        return path.name
    return f"{artefact.name}/{path.name}"


def kind_of(path: Path) -> str:
    """What an artefact's file is, in a word."""
    if path.suffix in (".safetensors", ".gguf"):
        return "weights"
    if "token" in path.name or path.name.startswith("chat_template"):
        return "tokenizer"
    return "config"


def plan_path(
    target: str,
    kind: str,
    path: Path,
    secrets: Sequence[bytes],
    on_bytes: OnBytes = lambda _count: None,
) -> PlannedFile:
    """Plan a file on disk: hash it and look for secrets in the same pass.

    Args:
        target: its path in the repository.
        kind: what it is.
        path: the file.
        secrets: values that must not be in it.
        on_bytes: told how many more bytes have been read.

    Raises:
        UserError: the file holds a secret or something of the form of a Hub token.
    """
    digest, search, size = hashlib.sha256(), SecretSearch(secrets), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            search.feed(piece)
            size += len(piece)
            on_bytes(len(piece))
    _refuse_secret(search, str(path))
    return PlannedFile(target, kind, path, size, digest.hexdigest())


def plan_bytes(target: str, kind: str, content: bytes, secrets: Sequence[bytes]) -> PlannedFile:
    """Plan a text that was made for the upload; like `plan_path`."""
    search = SecretSearch(secrets)
    search.feed(content)
    _refuse_secret(search, target)
    return PlannedFile(target, kind, content, len(content), hashlib.sha256(content).hexdigest())


def _refuse_secret(search: SecretSearch, name: str) -> None:
    if search.found:
        raise UserError(
            f"{name} holds a token or another secret of this machine, so nothing is published. "
            "Revoke that token, find out what wrote it there, and make the file again"
        )
