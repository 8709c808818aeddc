"""What a safetensors file holds, by its header: a broken file is refused before it is loaded.

The file is a little-endian u64 length, that many bytes of JSON, then the tensors
(https://huggingface.co/docs/safetensors).
"""

import struct
from pathlib import Path

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.rows import MAX_JSON_BYTES, bounded_json

PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def safetensors_files(folder: Path) -> list[Path]:
    """The files with the weights of a model or an adapter.

    Raises:
        UserError: there is none; weights in a pickle are named, and not read.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = sorted(path.name for end in PICKLES for path in folder.glob(f"*{end}"))
        kept = f", and {pickles[0]} is not read: loading a pickle can run code" if pickles else ""
        raise UserError(
            f"{folder} has no *.safetensors{kept}; expected a folder written by save_pretrained, "
            "with safetensors weights"
        )
    return files


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The tensors of a file, by name.

    Raises:
        UserError: it is empty, cut short, or no safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
            if not 2 <= length <= min(MAX_JSON_BYTES, size - 8):
                raise _not_safetensors(path, size)
            header = file.read(length)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    try:
        tensors = {name: entry for name, entry in bounded_json(header).items() if name[:2] != "__"}
        ends = [int(entry["data_offsets"][1]) for entry in tensors.values()]
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in tensors.items()}
    except (ValueError, AttributeError, TypeError, LookupError, OverflowError):
        raise _not_safetensors(path, size) from None
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise UserError(
            f"{path}: its header promises {expected:,} bytes, the file has {size:,}; it was cut "
            "short or written over. Write it again"
        )
    return shapes


def _not_safetensors(path: Path, size: int) -> UserError:
    got = "other bytes" if size else "an empty file"
    return UserError(f"{path}: expected a safetensors file, got {got}. Write it again")
