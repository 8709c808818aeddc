"""The GPU's scripts, on the CPU with a tiny shape."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "ci" / "gpu"
ON_CPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    """A folder with problems in GSM8K's form."""
    rows = [
        {
            "question": f"Ann has {n} pens and buys {n % 7 + 2} more. How many has she now?",
            "answer": f"She has {n} + {n % 7 + 2} = {n + n % 7 + 2} pens.\n#### {n + n % 7 + 2}",
        }
        for n in range(64)
    ]
    folder = tmp_path / "problems"
    folder.mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "train.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_a_run_is_trained_merged_and_compared(problems: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = [
        sys.executable,
        str(SCRIPTS / "end_to_end.py"),
        "--gsm8k",
        str(problems),
        "--out",
        str(out),
    ]
    small = ["--size", "tiny", "--steps", "2", "--prompts", "2", "--completion-tokens", "8"]
    # unsloth needs a GPU: its failure must not stop the other
    names = ["--only", "unsloth-16-graph", "plain-16-graph"]
    ran = subprocess.run(
        [*command, *small, *names],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **ON_CPU},
    )
    runs = json.loads(out.read_text(encoding="utf-8"))["runs"]
    plain, unsloth = runs["plain-16-graph"], runs["unsloth-16-graph"]
    assert plain["train"]["exit_code"] == 0, ran.stdout
    assert len([seconds for seconds in plain["train"]["step_s"] if seconds]) == 2
    assert plain["train"]["left_behind"] == []
    assert plain["merge_float32"]["parity"]["passed"]
    assert "needs a CUDA GPU" in unsloth["train"]["last_lines"][-1]
    assert ran.returncode == 1, "one of two failed"


@pytest.mark.slow
def test_the_longest_completion_is_tried_and_written_down(problems: Path, tmp_path: Path) -> None:
    out = tmp_path / "limits.json"
    earlier = {"cases": {"16gb-1b": {"longest_that_ran": 2048}}}
    out.write_text(json.dumps(earlier), encoding="utf-8")
    command = [sys.executable, str(SCRIPTS / "limits.py"), "--gsm8k", str(problems)]
    ran = subprocess.run(
        [*command, "--out", str(out), "--size", "tiny"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **ON_CPU},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    cases = json.loads(out.read_text(encoding="utf-8"))["cases"]
    assert cases["16gb-1b"] == earlier["cases"]["16gb-1b"], "another call's result is kept"
    tiny = cases["tiny"]
    assert tiny["longest_that_ran"] == tiny["plan_says_fits"] == 16
    assert tiny["shortest_that_failed"] is None
    (tried,) = tiny["tried"]
    assert tried["prompts"] == 8
    assert len(tried["step_s"]) == 2
    assert tried["mean_tokens"] > 8, "a random model seldom stops by itself"
    assert tried["plan"]["fits"]
    assert tried["memory"] is None, "no GPU was used"
