"""The files of an upload: each is read and hashed once, before a byte is sent.

A token comes from `HF_TOKEN` or the Hub login, and goes nowhere but into the request header.  In a
published file it would be public, so every file but weights is searched for one.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xmlgrpo_exporter.publish.own_files import OwnFile
from xmlgrpo_gguf.header import read_header
from xmlgrpo_rewards.console_script import HUB_TOKEN
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import without_notes, without_paths
from xmlgrpo_run.digests import OnBytes
from xmlgrpo_run.files import json_object
from xmlgrpo_run.safetensors_header import tensor_shapes

SECRET_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
TOKEN = re.compile(HUB_TOKEN.pattern.encode())


@dataclass(frozen=True, slots=True)
class UploadFile:
    """One file of the upload."""

    target: str  # its path in the repository
    kind: str  # what it is, in a word: `weights`, `tokenizer`, `card`, ...
    content: OwnFile | bytes  # the weights on disk; of any other file, its bytes
    size: int  # in bytes
    sha256: str  # of the content, in hexadecimal
    path: Path | None = None  # where it lies; None for what was made here
    sha256_here: str | None = None  # of what lies there, which may hold traces of this machine

    def read(self) -> bytes:
        """The whole content; for small files."""
        return self.content if isinstance(self.content, bytes) else self.content.read()


def artefact_file(
    target: str, file: OwnFile, base_name: str | None, secrets: Sequence[bytes], on_bytes: OnBytes
) -> UploadFile:
    """A file of an artefact: weights as they lie there, configs without this machine's traces.

    In an adapter's config the base gets `base_name`, what others know it by.

    Raises:
        UserError: weights are not what their name says, a config is no JSON, or one of `secrets`
            is in it.
    """
    path = file.path
    if path.suffix in (".safetensors", ".gguf"):
        with file.readable() as address:
            # a pickle under such a name would run code where it is loaded carelessly
            _ = (tensor_shapes if path.suffix == ".safetensors" else read_header)(address)
        sha256 = file.sha256(on_bytes)
        return UploadFile(target, "weights", file, file.size, sha256, path, sha256)
    on_bytes(file.size)
    is_tokenizer = "token" in path.name or path.name.startswith("chat_template")
    as_it_lies = content = file.read()
    if path.name.endswith("config.json"):
        config = json_object(content, path)
        published = _published_config(path.name, config, base_name)
        content = content if published == config else json_bytes(published)
    made = made_file(target, "tokenizer" if is_tokenizer else "config", content, secrets)
    return replace(made, path=path, sha256_here=hashlib.sha256(as_it_lies).hexdigest())


def made_file(target: str, kind: str, content: bytes, secrets: Sequence[bytes]) -> UploadFile:
    """A file from its bytes, refused where they hold a secret or the form of a Hub token."""
    if TOKEN.search(content) or any(secret in content for secret in secrets):
        raise UserError(
            f"{target} holds a token or another secret of this machine, so nothing is published. "
            "Revoke that token, find out what wrote it there, and make the file again"
        )
    return UploadFile(target, kind, content, len(content), hashlib.sha256(content).hexdigest())


def json_bytes(value: Any) -> bytes:
    """A JSON value as a file's content."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def secrets_at_hand(hub_token: str | None) -> tuple[bytes, ...]:
    """The Hub's token and what else is secret in the environment.

    Values under eight characters are left out: they would be found everywhere by chance.
    """
    values = {hub_token or "", *(os.environ.get(name, "") for name in SECRET_VARIABLES)}
    return tuple(sorted(value.encode() for value in values if len(value) >= 8))


def _published_config(name: str, config: dict[str, Any], base_name: str | None) -> dict[str, Any]:
    if name == "adapter_config.json" and base_name is not None:
        config = {**config, "base_model_name_or_path": base_name}
    if name == "tokenizer_config.json":
        config = without_notes(config)
    published: dict[str, Any] = without_paths(config)
    return published
