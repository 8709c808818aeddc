"""Whether a weights file is what its name says, read from its header only.

A pickle named `model.safetensors` would run code on the machine of whoever loads it carelessly; a
truncated file would fail there.  Both are found here, before anything is published.

A safetensors file is a little-endian u64 length, that many bytes of JSON, then the tensors
(https://huggingface.co/docs/safetensors).  GGUF is `gguf_header`'s.
"""

import json
import struct
from pathlib import Path

from xmlgrpo_exporter.gguf_header import read_header
from xmlgrpo_rewards.errors import UserError

MAX_SAFETENSORS_HEADER = 100_000_000  # the library's own limit


def check_weights(path: Path) -> None:
    """Check the header of a weights file; files of other kinds pass.

    Raises:
        UserError: the file is empty, cut short or not of the format that its name says.
    """
    if path.suffix == ".safetensors":
        _check_safetensors(path)
    elif path.suffix == ".gguf":
        read_header(path)


def gguf_architecture(path: Path) -> str | None:
    """The value of `general.architecture`, e.g. `gemma3`; None when the file has none."""
    value = read_header(path).metadata.get("general.architecture")
    return value if isinstance(value, str) else None


def _check_safetensors(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
        if not 2 <= length <= min(MAX_SAFETENSORS_HEADER, size - 8):
            raise _not_safetensors(path)
        header = file.read(length)
    try:
        tensors = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name[:2] != "__"]
    except (ValueError, AttributeError, TypeError, KeyError, IndexError):
        raise _not_safetensors(path) from None
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise UserError(
            f"{path}: its header promises {expected:,} bytes, the file has {size:,}; it was cut "
            "short. Write it again"
        )


def _not_safetensors(path: Path) -> UserError:
    return UserError(
        f"{path}: expected a safetensors file, but its first bytes are not one's; weights are "
        "published as safetensors or GGUF only. Write it again"
    )
