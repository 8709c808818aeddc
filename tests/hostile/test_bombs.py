"""Files from anywhere that would take all memory or time: refused, each in a child with limits."""

import gzip
import json
import lzma
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# For every path it is given: reads it in a fork with 200 MiB more memory than now and one second of
# processor time, and prints what came of it.
CHILD = """
import json, os, resource, sys
from pathlib import Path
from xmlgrpo_gguf.header import read_header
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.rows import text_rows
import pyarrow.parquet
from xmlgrpo_run.files import check_small_files, read_json
from xmlgrpo_run.metrics import read_log
from xmlgrpo_run.rows import read_rows
from xmlgrpo_run.safetensors_header import tensor_shapes
from xmlgrpo_trainer.config.run_config import load_config

def read(path):
    if path.name in ("tokenizer.json", "config.json") or path.suffix == ".jinja":
        return check_small_files(path.parent)
    if path.name == "metrics.jsonl":
        return read_log(path)
    kinds = {".yaml": load_config, ".json": read_json, ".jsonl": lambda p: list(text_rows(p)),
             ".safetensors": tensor_shapes, ".gguf": read_header}
    return kinds.get(path.suffix, lambda p: list(read_rows(p)))(path)

for name in sys.argv[1:]:
    out, into = os.pipe()
    child = os.fork()
    if not child:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + (200 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (5, 5))  # a tenth is taken, on a slow core more
        try:
            read(Path(name))
            said = "read"
        except UserError as error:
            said = f"refused: {error}"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(into, said.encode(errors="replace")[:600])
        os._exit(0)
    os.close(into)
    said = os.fdopen(out, "rb").read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    print(json.dumps(said or f"ended by signal {os.waitstatus_to_exitcode(status)}"))
"""


class Bomb(NamedTuple):
    """A file to read, and what is said of it; `read` where it may be read."""

    file: str
    content: bytes | Callable[[Path], None]
    says: str


def sparse(size: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.touch()
        os.truncate(path, size)

    return write


def nested(opening: str, times: int, inside: str = "") -> bytes:
    return (opening * times + inside).encode()


def laughs(line: str) -> bytes:
    """Ten lines, each nine times the one above."""
    first = "a0: &a0 {x: 1}\n"
    lines = [
        f"a{n}: &a{n} " + line.format(", ".join([f"*a{n - 1}"] * 9)) + "\n" for n in range(1, 11)
    ]
    return (first + "".join(lines)).encode()


def safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def gguf(*pairs: tuple[bytes, bytes], tensors: int = 0, count: int | None = None) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(pairs) if count is None else count)
    return head + b"".join(struct.pack("<Q", len(key)) + key + value for key, value in pairs)


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IIQ", 9, kind, count) + items


def xz(dictionary: int) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": dictionary, "preset": 0}]
    return lzma.compress(SMALL, filters=filters)


def parquet(columns: int = 1, length: int = 1) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        cells = {f"c{number}": ["x" * length] for number in range(columns)}
        pq.write_table(pa.table(cells), path, compression="zstd", use_dictionary=False)

    return write


SMALL = b'{"question": "q", "answer": "1"}\n'
EMPTIES = b"[" + b"[]," * 4_000_000 + b"[]]"
ROW = b'{"question": "q", "answer": "a", "more": %s}\n'
BOMBS = {
    "yaml-laughs": Bomb("a.yaml", laughs("[{0}]"), "aliases"),
    "yaml-merged-laughs": Bomb("a.yaml", laughs("{{<<: [{0}]}}"), "aliases"),
    "yaml-holds-itself": Bomb("a.yaml", b"a: &a [*a]\n", "nested"),
    "yaml-key-holds-itself": Bomb("a.yaml", b"&a ? *a : 1\n", "not valid YAML"),
    "yaml-deep-list": Bomb("a.yaml", b"a: " + nested("[", 40_000), "nested more than 32"),
    "yaml-deep-mapping": Bomb("a.yaml", b"a: " + nested("{a: ", 9_000), "nested more than 32"),
    "yaml-deep-blocks": Bomb("a.yaml", nested("- ", 20_000), "nested more than 32"),
    "yaml-somewhat-deep": Bomb("a.yaml", b"a: " + b"[" * 60 + b"]" * 60, "nested more than 32"),
    "yaml-many-keys": Bomb("a.yaml", b"".join(b"k%d: 1\n" % n for n in range(5_100)), "values"),
    "yaml-long": Bomb("a.yaml", b"a: b\n" * 1_000_000, "at most 50,000 bytes"),
    "yaml-zeros": Bomb("a.yaml", sparse(1 << 33), "at most 50,000 bytes"),
    "yaml-digits": Bomb("a.yaml", b"seed: " + b"9" * 40_000, "digits"),
    "yaml-hexadecimal": Bomb("a.yaml", b"seed: 0x" + b"f" * 40_000, "digits"),
    "yaml-base-60": Bomb("a.yaml", b"seed: 1" + b":59" * 15_000, "digits"),
    "yaml-date": Bomb("a.yaml", b"seed: 2001-99-99", "not valid YAML"),
    "yaml-exponent": Bomb("a.yaml", b"seed: 1e999999999", "seed: .*got inf"),
    "json-deep": Bomb("a.json", nested("[", 400_000), "nested"),
    "json-deep-objects": Bomb("a.json", nested('{"a":', 200_000), "nested"),
    "json-somewhat-deep": Bomb("a.json", b'{"a":' + b"[" * 500 + b"]" * 500 + b"}", "nested"),
    "json-empties": Bomb("a.json", EMPTIES, "values"),
    "json-many-keys": Bomb("a.json", b'{"a":1' + b',"a":1' * 2_500_000 + b"}", "values"),
    "json-most-values": Bomb("a.json", b'{"a":[' + b"{}," * 249_000 + b"{}]}", "read"),
    "json-wide-text": Bomb("a.json", b'{"a":"' + b"x" * 16_000_000 + '😀"}'.encode(), "read"),
    "json-structure-in-texts": Bomb("a.json", b'{"a":[' + b'"[",' * 400_000 + b"0]}", "values"),
    "json-text-of-structure": Bomb("a.json", b'{"a":"' + rb"[\\\"{," * 2_000_000 + b'"}', "read"),
    "json-quotes": Bomb("a.json", b'{"a":"' + rb"\"" * 7_000_000, "not JSON"),
    "json-digits": Bomb("a.json", b'{"a":' + b"9" * 10_000_000 + b"}", "not JSON"),
    "json-zeros": Bomb("a.json", sparse(1 << 33), "bytes"),
    "json-pipe": Bomb("a.json", os.mkfifo, "not a file"),
    "row-deep": Bomb("a.jsonl", ROW % nested("[", 100_000), "a.jsonl:1: .*nested"),
    "row-empties": Bomb("a.jsonl", ROW % EMPTIES[:9_000_000], "a.jsonl:1: .*values"),
    "row-zeros": Bomb("a.jsonl", sparse(1 << 33), "a.jsonl:1: .*over 10,000,000 bytes"),
    "row-empty-lines": Bomb("a.jsonl", b"\n" * 9_000_000, "over 100,000 empty lines"),
    "gzip-zeros": Bomb("a.jsonl.gz", gzip.compress(bytes(60 << 20), 1), "over 10,000,000 bytes"),
    "gzip-rows": Bomb("a.jsonl.gz", gzip.compress(SMALL * 700_000), "over 100 times its size"),
    "xz-rows": Bomb("a.jsonl.xz", lzma.compress(SMALL * 700_000, preset=0), "over 100 times"),
    "xz-dictionary": Bomb("a.jsonl.xz", xz(1 << 30), "cannot be unpacked: Memory usage limit"),
    "csv-open-quote": Bomb("a.csv", b'question,answer\n"' + b"a\n" * 4_000_000, "quotation mark"),
    "csv-commas": Bomb("a.csv", b"," * 5_000_000 + b"\n", "500,000 cells"),
    "csv-columns": Bomb("a.csv", b"," * 20_000 + b"\n", "10,000 at most"),
    "parquet-columns": Bomb("a.parquet", parquet(columns=20_000), "at most 1,000 columns"),
    "parquet-text": Bomb("a.parquet", parquet(length=100_000_000), "over 100 times its size"),
    "parquet-footer": Bomb(
        "a.parquet", b"PAR1" + bytes(90) + b"\xff\xff\xff\x7fPAR1", "as Parquet"
    ),
    "config-layers": Bomb(
        "config.json", b'{"num_hidden_layers": 1000000000}', "at most 1,000, got"
    ),
    "config-inner-layers": Bomb(
        "config.json", b'{"text_config": {"n_layer": 99999}}', "n_layer: expected at most 1,000"
    ),
    "template-zeros": Bomb("chat_template.jinja", sparse(1 << 33), "at most 1,048,576 bytes"),
    "metrics-deep": Bomb("metrics.jsonl", nested("[", 5_000_000), "read"),
    "metrics-empties": Bomb("metrics.jsonl", EMPTIES, "read"),
    "tokenizer-deep": Bomb("tokenizer.json", nested('{"a":[', 1_000_000), "nested"),
    "tokenizer-empties": Bomb("tokenizer.json", b"[" + b"[]," * 9_000_000, "values"),
    "tokenizer-zeros": Bomb("tokenizer.json", sparse(1 << 33), "bytes"),
    "tensors-deep": Bomb("a.safetensors", safetensors(nested("[", 100_000)), "safetensors"),
    "tensors-empties": Bomb("a.safetensors", safetensors(b'{"a":' + EMPTIES + b"}"), "safetensors"),
    "tensors-long": Bomb("a.safetensors", struct.pack("<Q", 1 << 62) + b"{}", "safetensors"),
    "tensors-odd": Bomb(
        "a.safetensors",
        safetensors(json.dumps({"a": {"shape": [], "data_offsets": ["a", "b"]}}).encode()),
        "safetensors",
    ),
    "gguf-array": Bomb("a.gguf", gguf((b"a", array(8, 1 << 62))), "announced"),
    "gguf-array-of-arrays": Bomb("a.gguf", gguf((b"a", array(9, 1))), "value type 9"),
    "gguf-pairs": Bomb("a.gguf", gguf(count=1 << 60), "announced"),
    "gguf-tensors": Bomb("a.gguf", gguf(tensors=1 << 40), "announced"),
    "gguf-texts": Bomb("a.gguf", gguf((b"a", array(8, 3_000_000, bytes(24_000_000)))), "announced"),
    "gguf-numbers": Bomb(
        "a.gguf",
        gguf(*[(b"k%d" % n, array(11, 400_000, b"\x7f" * 3_200_000)) for n in range(9)]),
        "announced",
    ),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What became of each bomb."""
    paths = []
    for name, bomb in BOMBS.items():
        path = tmp_path_factory.mktemp(name) / bomb.file
        if callable(bomb.content):
            bomb.content(path)
        else:
            path.write_bytes(bomb.content)
        paths.append(str(path))
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, *paths], check=True, capture_output=True, text=True
    )
    return dict(zip(BOMBS, map(json.loads, ran.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_five_seconds_and_200_mib(
    answers: dict[str, str], name: str
) -> None:
    says = BOMBS[name].says
    expected = "read" if says == "read" else f"refused: .*{says}"
    assert re.match(expected, answers[name]), answers[name]
