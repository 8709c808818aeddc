"""Read a GGUF file's header in plain Python, every size checked before it is believed.

A GGUF may come from anywhere, and its readers have had memory-safety bugs; a 49-byte file with an
array length of 2**63 is enough to hang the `gguf` package's reader (0.19.0).  Here nothing is read
or allocated that the file's own length does not allow, time is linear in the file, and whatever is
wrong is a `BadGgufError` that says what.

Layout (ggml/docs/gguf.md): magic, version, number of tensors, number of key-value pairs, the pairs,
one description a tensor, padding, the tensors' bytes.
"""

import struct
from array import array
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from xmlgrpo_rewards.errors import UserError

MAGIC = b"GGUF"
VERSIONS = (2, 3)

MAX_PAIRS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_ITEMS = 3 << 19  # in all arrays: twice what the largest vocabulary in use has with its merges
MAX_STRING_BYTES = 4 << 20
MAX_KEY_BYTES = 1 << 16
MAX_DIMENSIONS = 4
# Five vocabularies of Gemma's length (262,144) fit.
MAX_HEADER_BYTES = 32 << 20

STRING, ARRAY = 8, 9
SCALARS: dict[int, str] = dict(
    zip((*range(8), *range(10, 13)), "BbHhIif?Qqd", strict=True)
)  # struct's codes

# ggml type -> (values a block, bytes a block); ggml.h, and GGML_QUANT_SIZES of gguf-py
BLOCKS = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    9: (32, 36),  # Q8_1
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    15: (256, 292),  # Q8_K
    16: (256, 66),  # IQ2_XXS
    17: (256, 74),  # IQ2_XS
    18: (256, 98),  # IQ3_XXS
    19: (256, 50),  # IQ1_S
    20: (32, 18),  # IQ4_NL
    21: (256, 110),  # IQ3_S
    22: (256, 82),  # IQ2_S
    23: (256, 136),  # IQ4_XS
    24: (1, 1),  # I8
    25: (1, 2),  # I16
    26: (1, 4),  # I32
    27: (1, 8),  # I64
    28: (1, 8),  # F64
    29: (256, 56),  # IQ1_M
    30: (1, 2),  # BF16
    34: (256, 54),  # TQ1_0
    35: (256, 66),  # TQ2_0
    39: (32, 17),  # MXFP4
    40: (64, 36),  # NVFP4
    41: (128, 18),  # Q1_0
    42: (64, 18),  # Q2_0
}


class BadGgufError(UserError):
    """The file is not a GGUF that can be trusted to be whole."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's description: shape innermost first, ggml type, bytes and where they start."""

    name: str
    shape: tuple[int, ...]
    type_id: int
    start: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What stands before the tensors' bytes."""

    version: int
    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def tokens(self) -> list[str]:
        """The vocabulary, in order of the ids; empty when the file has none."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return tokens if isinstance(tokens, list) else []

    def token_text(self, role: str) -> str:
        """How the token of a role (`bos`, `eos`) is written; empty when the file has none."""
        token, tokens = self.metadata.get(f"tokenizer.ggml.{role}_token_id"), self.tokens
        return tokens[token] if isinstance(token, int) and 0 <= token < len(tokens) else ""


def require_gguf(path: Path) -> None:
    """See that a file begins as every GGUF does; a BadGgufError where it does not."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise BadGgufError(f"{path} is not a GGUF file: it is not a file")
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        raise BadGgufError(
            f"cannot read the GGUF file {path}: {error.strerror} (make gguf RUN=... makes one)"
        ) from None
    if magic != MAGIC:
        raise BadGgufError(
            f"{path} is not a GGUF file: expected it to begin with {MAGIC!r}, got {magic!r}"
        )


def read_header(path: Path) -> GgufHeader:
    """Read and check the header of a GGUF file.

    Raises:
        BadGgufError: not a file, too short, a wrong magic or version, a size that the file cannot
            hold, a tensor that reaches past the end of the file (a truncated copy).
    """
    require_gguf(path)
    with path.open("rb") as file:
        return _Reader(file, path).header()


class _Reader:
    """A cursor over the file that knows how many bytes are left."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path, self._length = file, path, path.stat().st_size
        self._left = min(self._length, MAX_HEADER_BYTES)
        self._items_left = MAX_ITEMS

    def header(self) -> GgufHeader:
        self._bytes(len(MAGIC), "magic")  # `require_gguf` has looked at it
        version = self._number("I", "version")
        if version not in VERSIONS:
            raise self._bad(
                f"GGUF version {version}; this reads {VERSIONS} (little-endian only), so convert "
                "the model again"
            )
        tensor_count = self._count(MAX_TENSORS, 24, "tensors")
        pair_count = self._count(MAX_PAIRS, 13, "key-value pairs")
        metadata: dict[str, Any] = {}
        for _ in range(pair_count):
            key = self._string(MAX_KEY_BYTES, "key")
            metadata[key] = self._value(self._number("I", key), key)
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 8 <= alignment <= 1 << 16 or alignment % 8:
            raise self._bad(f"general.alignment is {alignment!r}")
        described = [self._tensor() for _ in range(tensor_count)]
        start = -(-self._file.tell() // alignment) * alignment
        tensors = tuple(replace(tensor, start=start + tensor.start) for tensor in described)
        for tensor in tensors:
            end = tensor.start + tensor.size_bytes
            if end > self._length:
                raise self._bad(
                    f"tensor {tensor.name!r} ends at byte {end}, the file at {self._length}: it is "
                    "truncated or its sizes are wrong"
                )
        return GgufHeader(version, metadata, tensors)

    def _tensor(self) -> Tensor:
        name = self._string(MAX_KEY_BYTES, "tensor name")
        dimensions = self._number("I", name)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise self._bad(f"tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self._number("Q", name) for _ in range(dimensions))
        type_id = self._number("I", name)
        if type_id not in BLOCKS:
            raise self._bad(f"tensor {name!r} has the unknown type {type_id}")
        values, block_bytes = BLOCKS[type_id]
        if shape[0] % values:
            raise self._bad(f"tensor {name!r}: rows of {shape[0]} in blocks of {values}")
        size_bytes = prod(shape) // values * block_bytes
        return Tensor(name, shape, type_id, self._number("Q", name), size_bytes)

    def _value(self, kind: int, key: str) -> Any:
        if kind == STRING:
            return self._string(MAX_STRING_BYTES, key)
        if kind != ARRAY:
            return self._number(self._scalar(kind, key), key)
        item = self._number("I", key)
        code = "" if item == STRING else self._scalar(item, key)
        width = struct.calcsize(f"<{code}") if code else 8
        count = self._count(self._items_left, width, key)
        self._items_left -= count
        if not code:
            return [self._string(MAX_STRING_BYTES, key) for _ in range(count)]
        raw = self._bytes(count * width, key)
        return list(raw) if code == "?" else array(code, raw).tolist()

    def _scalar(self, kind: int, key: str) -> str:
        if kind not in SCALARS:
            raise self._bad(f"{key!r} has the value type {kind}")
        return SCALARS[kind]

    def _count(self, most: int, least_bytes: int, what: str) -> int:
        """A number of things, refused when the rest of the file could not hold them."""
        count = self._number("Q", what)
        if count > most or count * least_bytes > self._left:
            raise self._bad(f"{what}: {count} announced, {self._left} bytes left to hold them")
        return count

    def _string(self, most: int, what: str) -> str:
        raw = self._bytes(self._count(most, 1, what), what)
        # single pieces of a byte-level vocabulary need not be whole UTF-8 characters
        return raw.decode("utf-8", errors="surrogateescape")

    def _number(self, code: str, what: str) -> int:
        number: int = struct.unpack(f"<{code}", self._bytes(struct.calcsize(f"<{code}"), what))[0]
        return number

    def _bytes(self, count: int, what: str) -> bytes:
        if count > self._left:
            raise self._bad(f"{what}: {count} bytes wanted, {self._left} left")
        raw = self._file.read(count)
        self._left -= count
        if len(raw) != count:
            raise self._bad(f"{what}: the file became shorter while it was read")
        return raw

    def _bad(self, why: str) -> BadGgufError:
        return BadGgufError(f"{self._path} is not a whole GGUF: {why}")
