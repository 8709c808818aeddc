"""The header reader: what a GGUF says, and files that lie."""

import struct

import pytest

from xmlgrpo_gguf import header as gguf_header
from xmlgrpo_gguf.header import BadGgufError, read_header

U32, STRING, ARRAY = 4, 8, 9
F32, Q8_0 = 0, 8


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return (
        text(name)
        + struct.pack("<I", len(shape))
        + struct.pack(f"<{len(shape)}Q", *shape)
        + struct.pack("<IQ", kind, offset)
    )


def gguf(
    pairs: bytes = b"",
    tensors: bytes = b"",
    *,
    n_pairs: int = 0,
    n_tensors: int = 0,
    magic: bytes = b"GGUF",
    version: int = 3,
    body: bytes = b"",
) -> bytes:
    head = magic + struct.pack("<IQQ", version, n_tensors, n_pairs) + pairs + tensors
    return head + bytes(-len(head) % 32) + body


STRINGS = pair("tokens", ARRAY, struct.pack("<IQ", STRING, 2) + text("a") + text("ß"))
NUMBERS = pair("kinds", ARRAY, struct.pack("<IQ", U32, 3) + struct.pack("<3I", 1, 2, 3))


def test_reads_pairs_arrays_and_tensors(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(
        gguf(
            pair("name", STRING, text("tiny")) + STRINGS + NUMBERS,
            tensor("w", (32, 2), Q8_0, 0) + tensor("b", (4,), F32, 96),
            n_pairs=3,
            n_tensors=2,
            body=bytes(96 + 16),
        )
    )
    header = read_header(path)
    assert header.metadata == {"name": "tiny", "tokens": ["a", "ß"], "kinds": [1, 2, 3]}
    # 64 values in two blocks of 32, each 34 bytes
    assert [(t.name, t.shape, t.size_bytes) for t in header.tensors] == [
        ("w", (32, 2), 68),
        ("b", (4,), 16),
    ]
    assert header.tensors[1].start - header.tensors[0].start == 96


HANGS_GGUF_0_19 = gguf(pair("a", ARRAY, struct.pack("<IQ", U32, 1 << 63)), n_pairs=1)[:49]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", "got b''", id="empty"),
        pytest.param(b"GGUF", "0 left", id="magic-only"),
        pytest.param(gguf(magic=b"GGML"), "is not a GGUF", id="wrong-magic"),
        pytest.param(b"PK\x03\x04" + bytes(60), "is not a GGUF", id="a-zip"),
        pytest.param(gguf(version=1), "version 1", id="old-version"),
        pytest.param(gguf(version=0x03000000), "little-endian", id="big-endian"),
        pytest.param(HANGS_GGUF_0_19, "announced", id="49-bytes-that-hang-gguf-py"),
        pytest.param(gguf(n_pairs=1 << 63), "announced", id="giant-pair-count"),
        pytest.param(gguf(n_tensors=1 << 63), "announced", id="giant-tensor-count"),
        pytest.param(gguf(n_pairs=2), "announced", id="pairs-missing"),
        pytest.param(
            gguf(struct.pack("<Q", 1 << 40) + bytes(32), n_pairs=1), "announced", id="giant-key"
        ),
        pytest.param(
            gguf(pair("k", STRING, struct.pack("<Q", 1 << 40)), n_pairs=1),
            "announced",
            id="giant-string",
        ),
        pytest.param(
            gguf(pair("k", ARRAY, struct.pack("<IQ", STRING, 1 << 40)), n_pairs=1),
            "announced",
            id="giant-string-array",
        ),
        pytest.param(
            gguf(pair("k", ARRAY, struct.pack("<IQ", ARRAY, 1)), n_pairs=1),
            "value type 9",
            id="array-of-arrays",
        ),
        pytest.param(gguf(pair("k", 99, bytes(8)), n_pairs=1), "value type 99", id="unknown-kind"),
        pytest.param(
            gguf(pair("general.alignment", U32, struct.pack("<I", 0)), n_pairs=1),
            "alignment",
            id="alignment-zero",
        ),
        pytest.param(
            gguf(tensors=tensor("w", (1 << 60, 1 << 60), F32, 0), n_tensors=1),
            "truncated",
            id="giant-tensor",
        ),
        pytest.param(
            gguf(tensors=tensor("w", (32,), F32, 1 << 62), n_tensors=1),
            "truncated",
            id="offset-far-out",
        ),
        pytest.param(
            gguf(tensors=tensor("w", (33,), Q8_0, 0), n_tensors=1, body=bytes(99)),
            "blocks of 32",
            id="half-a-block",
        ),
        pytest.param(
            gguf(tensors=tensor("w", (4,), 57, 0), n_tensors=1, body=bytes(99)),
            "unknown type 57",
            id="unknown-tensor-type",
        ),
        pytest.param(
            gguf(tensors=text("w") + struct.pack("<I", 1 << 31) + bytes(40), n_tensors=1),
            "dimensions",
            id="giant-dimensions",
        ),
        pytest.param(
            gguf(tensors=tensor("w", (64,), F32, 0), n_tensors=1, body=bytes(255)),
            "truncated",
            id="one-byte-short",
        ),
    ],
)
def test_hostile_files_are_refused_in_words(tmp_path, content, expected):
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    with pytest.raises(BadGgufError, match=expected):
        read_header(path)


def test_every_cut_of_a_good_file_is_refused(tmp_path):
    whole = gguf(STRINGS, tensor("w", (4,), F32, 0), n_pairs=1, n_tensors=1, body=bytes(16))
    path = tmp_path / "cut.gguf"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BadGgufError):
            read_header(path)
    path.write_bytes(whole)
    assert read_header(path).tensors


def test_header_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    # a million one-byte numbers become a list of eight million bytes
    flags = pair("flags", ARRAY, struct.pack("<IQ", 0, 1 << 20) + bytes(1 << 20))
    path = tmp_path / "large.gguf"
    path.write_bytes(gguf(flags, n_pairs=1))
    assert len(read_header(path).metadata["flags"]) == 1 << 20
    monkeypatch.setattr(gguf_header, "MAX_HEADER_BYTES", 1 << 20)
    with pytest.raises(BadGgufError, match="announced"):
        read_header(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(".", "it is not a file", id="folder"),
        pytest.param("none.gguf", "No such file", id="missing"),
    ],
)
def test_not_a_file(tmp_path, name, expected):
    with pytest.raises(BadGgufError, match=expected):
        read_header(tmp_path / name)
