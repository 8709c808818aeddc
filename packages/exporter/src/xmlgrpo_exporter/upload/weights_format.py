"""Whether a weights file is what its name says, read from its header only.

A pickle named `model.safetensors` would run code on the machine of whoever loads it carelessly; a
truncated file would fail there.  Both are found here, before anything is published.
"""

from pathlib import Path

from xmlgrpo_gguf.header import read_header
from xmlgrpo_run.safetensors_header import tensor_shapes


def check_weights(path: Path) -> None:
    """Check the header of a weights file; files of other kinds pass.

    Raises:
        UserError: the file is empty, cut short or not of the format that its name says.
    """
    if path.suffix == ".safetensors":
        tensor_shapes(path)
    elif path.suffix == ".gguf":
        read_header(path)


def gguf_architecture(path: Path) -> str | None:
    """The value of `general.architecture`, e.g. `gemma3`; None when the file has none."""
    value = read_header(path).metadata.get("general.architecture")
    return value if isinstance(value, str) else None
