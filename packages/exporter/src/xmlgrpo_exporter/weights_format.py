"""Whether a file is what its name says, read from its first bytes only.

A pickle named `model.safetensors` would run code on the machine of whoever loads it carelessly;
a truncated file would fail there.  Both are found here, before anything is published.

Formats: safetensors is a little-endian u64 length, that many bytes of JSON, then the tensors
(https://huggingface.co/docs/safetensors); GGUF begins with `GGUF`, u32 version, u64 tensor count,
u64 metadata count (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

import json
import struct
from pathlib import Path

from xmlgrpo_rewards.errors import UserError

MAX_SAFETENSORS_HEADER = 100_000_000  # the library's own limit
GGUF_VERSIONS = (2, 3)
GGUF_STRING = 8  # the type number of a string value
HEAD_BYTES = 65_536  # `general.*` keys come first in every file llama.cpp writes


def check_format(path: Path) -> None:
    """Check the header of a weights file; files of other kinds pass.

    Raises:
        UserError: the file is empty, cut short or not of the format that its name says.
    """
    if path.suffix == ".safetensors":
        _check_safetensors(path)
    elif path.suffix == ".gguf":
        _check_gguf(path)


def gguf_architecture(path: Path) -> str | None:
    """The value of `general.architecture`, e.g. `gemma3`; None when it does not stand up front."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    key = b"general.architecture" + struct.pack("<I", GGUF_STRING)
    at = head.find(key)
    if at < 0:
        return None
    start = at + len(key)
    (length,) = struct.unpack_from("<Q", head.ljust(start + 8, b"\0"), start)
    return head[start + 8 : start + 8 + min(length, 64)].decode("ascii", "replace")


def _check_safetensors(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
        if not 2 <= length <= min(MAX_SAFETENSORS_HEADER, size - 8):
            raise _not(path, "safetensors")
        header = file.read(length)
    try:
        tensors = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name[:2] != "__"]
    except (ValueError, AttributeError, TypeError, KeyError, IndexError):
        raise _not(path, "safetensors") from None
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise UserError(
            f"{path}: its header promises {expected:,} bytes, the file has {size:,}; it was cut "
            "short. Write it again"
        )


def _check_gguf(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(24).ljust(24, b"\0")
    magic, version, tensors, _ = struct.unpack("<4sIQQ", head)
    if magic != b"GGUF" or version not in GGUF_VERSIONS or not tensors:
        raise _not(path, "GGUF")


def _not(path: Path, form: str) -> UserError:
    return UserError(
        f"{path}: expected a {form} file, but its first bytes are not one's; only safetensors and "
        "GGUF weights are published. Write it again"
    )
