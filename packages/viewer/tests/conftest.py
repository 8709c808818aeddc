"""A run folder as training leaves it, at any moment of a run, for tests of what reads it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from finished_runs import finished
from xmlgrpo_run.files import write_sealed
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Manifest

RIGHT = "<reasoning>\n2 + 3 = 5\n</reasoning>\n<answer>\n5\n</answer>\n"
WRONG = "<reasoning>\n2 + 3 = 6\n</reasoning>\n<answer>\n6\n</answer>\n"


def answer(number: int, right: bool, **changes: Any) -> dict[str, Any]:
    """One held-out problem with its reply, as `holdout/` has it."""
    return {
        "id": f"held-out:{number}",
        "question": f"What is 2 + 3 ({number})?",
        "gold": "5",
        "reply": RIGHT if right else WRONG,
        "tokens": 20 + number % 7,
        "strict_format": True,
        "strict_correct": right,
        "lenient_correct": right or number == 7,  # so that the two measures differ
        "worked": True,
        "truncated": False,
        "answered": True,
        **changes,
    }


def answers(step: int, right: Sequence[bool], **changes: Any) -> dict[str, Any]:
    """A file of `holdout/`."""
    items = [answer(number, one, **changes) for number, one in enumerate(right)]
    return {"step": step, "metrics": {}, "items": items}


def completion(step: int, text: str = RIGHT, **changes: Any) -> dict[str, Any]:
    """A line of `completions/`."""
    return {
        "step": step,
        "id": "train:1",
        "question": "What is 2 + 3?",
        "gold": "5",
        "completion": text,
        "scores": {"correctness_reward_func": 2.0, "mine:fits": None},
        "strict_correct": True,
        "lenient_correct": True,
        "note": "",
        **changes,
    }


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def begin(
    root: Path, *, steps: int = 6, before: Sequence[bool] = (False,) * 8, settings: str = ""
) -> RunFolder:
    """A run that has trained `steps` steps and is not finished."""
    run = RunFolder(root)
    root.mkdir(parents=True, exist_ok=True)
    run.config.write_text(f"task: gsm8k\n{settings}", encoding="utf-8")
    run.resolved.write_text(json.dumps({"grpo": {"max_steps": 10}}), encoding="utf-8")
    write_sealed(run.identity, {"data": "made up"})
    rows = [
        {
            "step": step,
            "time": 1e9 + 2 * step,
            "reward": step / 10,
            "rewards/correctness_reward_func/mean": step / 20,
            "rewards/int_reward_func/mean": step / 20,
            "sampled/strict": step / 10,
            "sampled/lenient": step / 10,
            "step_time": 2.0,
            "num_tokens": 100.0 * step,
            "grad_norm": 0.1,
            "entropy": 0.2,
        }
        for step in range(1, steps + 1)
    ]
    write_lines(run.metrics, rows)
    write_sealed(run.holdout_before, answers(0, before))
    for step in range(0, steps + 1, 3):
        write_sealed(run.validation(step), answers(step, [n < step for n in range(8)]))
    for step in range(1, steps + 1):
        write_lines(run.completions_of(step), [completion(step)])
    return run


def end(run: RunFolder, right: Sequence[bool], **manifest: Any) -> Manifest:
    """Let its training finish."""
    write_sealed(run.holdout_after, answers(60, right))
    base = run.root.parent / "base"
    base.mkdir(exist_ok=True)
    return finished(run, base, **manifest)


@pytest.fixture
def training(tmp_path: Path) -> RunFolder:
    """A run that is not finished; nothing trains it."""
    return begin(tmp_path / "sums")


@pytest.fixture
def run(training: RunFolder) -> RunFolder:
    """A finished run: 6 of 8 held-out problems are right, where none was."""
    end(training, [n < 6 for n in range(8)])
    return training


@contextmanager
def held(run: RunFolder) -> Iterator[None]:
    """As if a process trained into it."""
    from xmlgrpo_run.lock import one_writer

    with one_writer(run.lock, "taken"):
        yield
