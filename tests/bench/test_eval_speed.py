"""bench/answering/eval_speed.py on the CPU with a tiny shape, on rows of GSM8K's form."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.answering import eval_speed
from xmlgrpo_rewards.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def measured(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.answering.eval_speed", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=ENVIRONMENT, cwd=ROOT
    )


@pytest.mark.scripts
def test_both_engines_answer_the_test_items_alike(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("test", 40)):
        rows = [
            {
                "question": f"Ann has {n} pens and buys 2 more. How many has she now?",
                "answer": f"She has {n} + 2 = {n + 2} pens.\n#### {n + 2}",
            }
            for n in range(first, first + 20)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{split}.jsonl").write_text(text, encoding="utf-8")
    out = tmp_path / "speed.json"
    small = ("--size", "tiny", "--items", 6, "--tokens", 8, "--dtype", "float32")
    ran = measured("--gsm8k", tmp_path, "--out", out, *small, "--batch-size", 4)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["identical_replies"] == 6
    assert found["device"] == "CPU"
    for name, result in found["engines"].items():
        assert result["engines"]["answered"] == [name]
        assert (result["items"], result["at_once"]) == (6, 4)
        assert 0 < result["seconds"] < result["whole_run_s"]
        assert result["reply_tokens"] == pytest.approx(
            result["tokens_per_s"] * result["seconds"], rel=0.01
        )
    assert "6 of 6 replies identical" in ran.stdout


def test_a_folder_without_test_items_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["eval_speed", "--gsm8k", str(tmp_path), "--out", str(tmp_path / "speed.json")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(UserError, match=r"expected test\.jsonl"):
        eval_speed.main()
