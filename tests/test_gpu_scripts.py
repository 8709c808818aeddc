"""The GPU's end-to-end script, on the CPU with a tiny shape."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "ci" / "gpu" / "end_to_end.py"


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
    command = [sys.executable, str(SCRIPT), "--gsm8k", str(problems), "--out", str(out)]
    small = ["--size", "tiny", "--steps", "2", "--prompts", "2", "--completion-tokens", "8"]
    # unsloth needs a GPU: its failure must not stop the other
    names = ["--only", "unsloth-16-graph", "plain-16-graph"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [*command, *small, *names], capture_output=True, text=True, check=False, env=environment
    )
    runs = json.loads(out.read_text(encoding="utf-8"))["runs"]
    plain, unsloth = runs["plain-16-graph"], runs["unsloth-16-graph"]
    assert plain["train"]["exit_code"] == 0, ran.stdout
    assert len([seconds for seconds in plain["train"]["step_s"] if seconds]) == 2
    assert plain["train"]["left_behind"] == []
    assert plain["merge_float32"]["parity"]["passed"]
    assert "needs a CUDA GPU" in unsloth["train"]["last_lines"][-1]
    assert ran.returncode == 1, "one of two failed"
