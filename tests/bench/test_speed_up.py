"""speed_up.py on the CPU: a random model on rows of GSM8K's form, one process, then two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.scripts

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = [sys.executable, "-m", "bench.several_gpus.speed_up"]
CONFIG = {
    "model": {"backend": "plain", "device": "cpu"},
    "data": {"max_prompt_tokens": 512},
    "rollout": "graph",
    "lora": {"r": 4, "target_modules": ["q_proj", "v_proj"]},
    "grpo": {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "num_generations": 4,
        "max_completion_length": 8,
    },
}


def test_the_same_run_on_one_and_on_two_is_measured_and_compared(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    rows = [
        {
            "question": f"Ann has {number} pens and buys {number + 2} more. How many has she?",
            "answer": f"She has {number}+{number + 2} = {2 * number + 2}.\n#### {2 * number + 2}",
        }
        for number in range(200)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "two.json"
    words = ["--random", "tiny", "--gsm8k", str(tmp_path), "--steps", "3", "--out", str(out)]
    ran = subprocess.run(
        [*SCRIPT, *words, "--config", str(config)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(out.read_text())
    assert list(found["compared"]) == ["1", "2"]
    assert found["compared"]["1"]["speed_up"] == 1.0
    one, two = found["runs"]
    assert (one["hardware"]["processes"], two["hardware"]["processes"]) == (1, 2)
    assert [row["step"] for row in one["steps"]] == [row["step"] for row in two["steps"]]
    assert one["holdout"]["before"] == two["holdout"]["before"]
    assert found["compared"]["2"]["speed_up"] == pytest.approx(
        one["step_s"] / two["step_s"], abs=1e-3
    )
    assert str(tmp_path) not in out.read_text()


def test_too_few_steps_to_measure_are_refused(tmp_path: Path) -> None:
    words = ["--config", "none.yaml", "--steps", "2", "--out", str(tmp_path / "o.json")]
    ran = subprocess.run([*SCRIPT, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "expected more than 2, got 2" in ran.stderr
