"""Local rows are treated alike by training, validation, evaluation and export."""

import gzip
import json
import lzma
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from pyarrow import Table, parquet

from xmlgrpo_evaluator.tasks import task_folder
from xmlgrpo_exporter.check.questions import load_questions
from xmlgrpo_rewards.commands.validate import check_file
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import get_task
from xmlgrpo_trainer.config.run_config import DataConfig, HoldoutConfig, RunConfig
from xmlgrpo_trainer.problems.split import load_problems

TASK = get_task("gsm8k")
ROWS = [{"question": f"What is {n} + 1? 苹果", "answer": f"#### {n + 1}"} for n in range(8)]
LINES = [json.dumps(row, ensure_ascii=False).encode() for row in ROWS]
CSV = [b"question,answer", *(f"{r['question']},{r['answer']}".encode() for r in ROWS)]
Reader = Callable[[Path], list[str]]


@pytest.fixture(scope="module")
def glue() -> Iterator[ModuleType]:
    spec = spec_from_file_location("glue_of_rows", task_folder() / "any_task" / "glue.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def readers(glue: ModuleType) -> dict[str, Reader]:
    """Each stage's way to the questions of a file or folder, sorted."""

    def train(path: Path) -> list[str]:
        held_out = HoldoutConfig(report_rows=2, validation_rows=1)
        data = DataConfig(source="json", path=str(path))
        read = load_problems(RunConfig(data=data, holdout=held_out), TASK)
        return sorted(e.question for e in (*read.train, *read.validation, *read.report))

    def hold_out(path: Path) -> list[str]:
        other = path.with_name("others.jsonl")
        other.write_text('{"question": "another", "answer": "#### 1"}\n')
        held_out = HoldoutConfig(report_rows=5, validation_rows=3, path=str(path))
        data = DataConfig(source="json", path=str(other))
        read = load_problems(RunConfig(data=data, holdout=held_out), TASK)
        return sorted(e.question for e in (*read.validation, *read.report))

    def evaluate(path: Path) -> list[str]:
        return sorted(glue.load(data=str(path))["test"]["question"])

    def export(path: Path) -> list[str]:
        return sorted(load_questions(path, None).texts)

    return {"train": train, "holdout": hold_out, "eval": evaluate, "export": export}


def validate(path: Path) -> None:
    """Its own failures, as the other stages say them."""
    if failures := check_file(TASK, path).failures:
        raise UserError("\n".join(failures))


def put(path: Path, lines: list[bytes], pack: Callable[[bytes], bytes] = bytes) -> Path:
    path.write_bytes(pack(b"\n".join(lines) + b"\n"))
    return path


def as_parquet(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda f: put(f / "rows.jsonl", LINES), id="json-lines"),
        pytest.param(
            lambda f: put(f / "rows.jsonl", [b"\xef\xbb\xbf" + LINES[0] + b"\r", *LINES[1:]]),
            id="byte-order-mark",
        ),
        pytest.param(lambda f: put(f / "rows.csv", CSV), id="csv"),
        pytest.param(
            lambda f: put(f / "rows.csv", [b"\xef\xbb\xbf" + CSV[0], *CSV[1:]]), id="csv-of-excel"
        ),
        pytest.param(lambda f: put(f / "rows.jsonl.gz", LINES, gzip.compress), id="gzip"),
        pytest.param(lambda f: put(f / "rows.csv.xz", CSV, lzma.compress), id="csv-xz"),
        pytest.param(lambda f: as_parquet(f / "rows.parquet"), id="parquet"),
    ],
)
def test_every_form_is_read_by_every_stage(
    tmp_path: Path, readers: dict[str, Reader], make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    expected = sorted(row["question"] for row in ROWS)
    assert {name: read(path) for name, read in readers.items()} == dict.fromkeys(readers, expected)


def test_a_folder_downloaded_from_the_hub(tmp_path: Path, readers: dict[str, Reader]) -> None:
    for config in ("main", "socratic"):
        for split in ("train", "test"):
            as_parquet(tmp_path / "gsm8k" / config / f"{split}-00000-of-00001.parquet")
    (tmp_path / "gsm8k" / "README.md").write_text("---\n---\n")
    expected = sorted(row["question"] for row in ROWS)
    for read in readers.values():
        assert read(tmp_path / "gsm8k") == expected


@pytest.mark.parametrize(
    ("name", "broken", "said"),
    [
        pytest.param(
            "rows.jsonl", rb'{"question": "q \ud83d", "answer": "#### 3"}', "half a", id="half"
        ),
        pytest.param(
            "rows.jsonl",
            rb'{"question": "q", "\udc00": 1, "answer": "#### 3"}',
            "half a",
            id="half-key",
        ),
        pytest.param("rows.jsonl", b'{"question": "\xff", "answer": "#### 3"}', "UTF-8", id="ff"),
        pytest.param("rows.jsonl", '{"question": "q"}'.encode("utf-16-le"), "JSON", id="utf-16"),
        pytest.param(
            "rows.jsonl", b'{"question": "q", "answer": "\xed\xa0\xbd"}', "UTF-8", id="cesu"
        ),
        pytest.param("rows.csv", b"caf\xe9,#### 3", "UTF-8", id="latin-1"),
        pytest.param("rows.csv", b"q,#### 3,more", "2 cells", id="a-cell-too-many"),
        pytest.param(
            "rows.csv", b"x" * 11_000_000 + b",#### 3", "over 10,000,000 bytes", id="long-cell"
        ),
        pytest.param(
            "rows.jsonl",
            b'{"question": "' + b"x" * 100_000_000 + b'", "answer": "#### 3"}',
            "over 10,000,000 bytes",
            id="a-line-of-100-MB",
        ),
    ],
)
def test_a_broken_row_gets_the_same_sentence_everywhere(
    tmp_path: Path, readers: dict[str, Reader], name: str, broken: bytes, said: str
) -> None:
    good = CSV if name.endswith("csv") else LINES
    path = put(tmp_path / name, [*good[:3], broken, *good[3:]])
    told = set()
    for read in (*readers.values(), validate):
        with pytest.raises(UserError, match=f"^{name}:4: ") as caught:
            read(path)
        told.add(str(caught.value))
    assert len(told) == 1
    assert said in told.pop()
