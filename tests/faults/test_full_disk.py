"""A disk that is full or fails while a stage writes: the file is named, and the old one stays.

Each file that a stage writes, by the function that writes it.  Weights that a library saves, and
moments within a stage, are struck by bench/commands/faults.py.
"""

import errno
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from damage import said
from whole_runs import CONFIG, IDENTITY, Adapter, models, write_base, write_exported
from xmlgrpo_evaluator.journal import CountedReply, open_journal
from xmlgrpo_evaluator.results.ladder_table import plot
from xmlgrpo_evaluator.settings import Evaluation, run_settings
from xmlgrpo_exporter.check.check_json import write_check
from xmlgrpo_rewards.task import Example, get_task
from xmlgrpo_run.files import write_json, write_sealed, write_text
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest, write_manifest
from xmlgrpo_run.measures.holdout import HoldoutResult, save_result
from xmlgrpo_run.metrics import append_row
from xmlgrpo_run.screen.metric_names import words_of
from xmlgrpo_trainer.problems.exam import save_items
from xmlgrpo_trainer.problems.keep_best import keep
from xmlgrpo_trainer.reporting.result import draw_curves
from xmlgrpo_trainer.resume.checkpoints import seal
from xmlgrpo_trainer.resume.record import write_record
from xmlgrpo_viewer.page.report import write_report

Writer = Callable[[RunFolder], object]
SUMS = [Example(str(n), f"{n} + 1?", str(n + 1), "") for n in range(9)]
ROWS = [{"step": step, "reward": 1.0} for step in range(9)]


def add_reply(run: RunFolder, label: str = "tuned") -> None:
    place = run.eval / f"{label}.replies.jsonl"
    asked = Evaluation(models(run)[label], run_settings(run, read_manifest(run), {}), place)
    with open_journal(place, asked.identity("27c1")) as journal:
        journal.add(("d", 0), CountedReply("long " * 99, tokens=1, truncated=False))


def draw_ladder(run: RunFolder) -> None:
    plot({"rungs": [], "metric": "x", "task": "x", "items": 1}, run.ladder_plot)


WRITERS: dict[str, Writer] = {
    "config.yaml": lambda run: write_record(run, CONFIG, IDENTITY, {}, None),
    "metrics.jsonl": lambda run: append_row(run.metrics, {"step": 9, "note": "long " * 99}),
    "holdout/items.jsonl": lambda run: save_items(run.holdout_items, get_task("gsm8k"), SUMS),
    "holdout/report-after.json": lambda run: save_result(run.holdout_after, HoldoutResult(9, ())),
    "completions/step-00004.jsonl": lambda run: write_text(run.completions_of(4), "row\n" * 99),
    "best": lambda run: keep(run, Adapter(0.75), 4, 0.75),
    "curves.png": lambda run: draw_curves(ROWS, run.curves, "sums", words_of("gsm8k")),
    "manifest.json": lambda run: write_manifest(run, read_manifest(run)),
    "checkpoints/checkpoint-4/complete.json": lambda run: seal(run.checkpoints / "checkpoint-4"),
    "eval/tuned.replies.jsonl": add_reply,
    "eval/sums-q8_0.replies.jsonl": lambda run: add_reply(run, "sums-q8_0"),
    "eval/sums-q8_0.json": lambda run: write_sealed(run.eval / "sums-q8_0.json", ROWS[4]),
    "eval/tuned.json": lambda run: write_sealed(run.eval / "tuned.json", ROWS[4]),
    "gguf/check.json": lambda run: write_check(run.gguf, {"model": {"fingerprint": "ab"}}, []),
    "ladder.json": lambda run: write_sealed(run.ladder, ROWS[4]),
    "ladder.png": draw_ladder,
    "report.html": write_report,
    "hub/README.md": lambda run: write_text(run.hub_card, "a card " * 99),
    "hub/pushed.json": lambda run: write_json(run.pushed, {"files": ["long"] * 99}),
}


@contextmanager
def full() -> Iterator[None]:
    """No file grows: the system's own limit, which every library meets in its own way."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # an import in the block must not leave half a .pyc in `.venv`
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, most))
    try:
        yield
    finally:
        sys.dont_write_bytecode = kept
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@contextmanager
def broken() -> Iterator[None]:
    """What is written does not reach the disk."""

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        yield


@pytest.mark.parametrize("disk", [full, broken])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_the_disk_does_not_take_is_named(
    tmp_path: Path, name: str, disk: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["xmlgrpo"])
    run, base = RunFolder(tmp_path / "outputs" / "sums"), tmp_path / "outputs" / "base"
    write_base(base)
    write_exported(run, base)
    Adapter(4).save_pretrained(run.checkpoints / "checkpoint-4")
    path = run.root / name
    before = path.read_bytes() if path.is_file() else None

    def write() -> None:
        with disk():
            WRITERS[name](run)

    code, lines = said(write)
    if disk is broken and path.suffix == ".jsonl" and name.startswith(("metrics", "eval")):
        assert lines == ""  # a line that is added is not waited for
        return
    assert (code, lines.count("\n")) == (2, 1), lines
    where = path.parent if name.endswith("complete.json") else path  # or one that it vouches for
    assert f"{where}" in lines
    assert path.is_dir() or (path.read_bytes() if path.is_file() else None) == before
    assert not list(run.root.rglob("*.partial"))
