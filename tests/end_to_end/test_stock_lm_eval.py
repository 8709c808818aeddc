"""Stock lm_eval on our own tiny model, with the command line that people copy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import forked

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "Ann has 2 cups and gets {} more. " * 40 + "How many cups has she?"

# The real recipe, narrower and far too short; of the default's context.
SHORT = (
    *("model.tiny.hidden_size=64", "model.tiny.head_dim=16", "model.tiny.mlp_size=192"),
    *("model.tiny.warm_threads=1", "model.tiny.warm_steps=40", "lora.r=4", "lora.lora_alpha=8"),
    *("data.generated_rows=64", "holdout.report_rows=16", "holdout.validation_rows=16"),
    *("grpo.per_device_train_batch_size=16", "grpo.num_generations=4"),
    *("grpo.max_completion_length=24", "grpo.save_steps=2", "grpo.max_steps=2"),
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def script(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def test_the_command_of_the_documents_works_as_typed(tmp_path: Path) -> None:
    """On prompts as long as GSM8K's longest, with a model that may use its whole limit."""
    rows = [{"question": QUESTION.format(*range(n, n + 40)), "answer": "#### 5"} for n in (1, 2)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = tmp_path / "run"
    for words in (
        ("xmlgrpo-train", "--config", "configs/tiny.yaml", "--run", run, *SHORT),
        ("xmlgrpo-export", "merge", "--run", run),
    ):
        made = forked.run(words, ROOT)
        assert made.returncode == 0, made.stderr
    typed = (
        f"lm_eval run --model hf --model_args pretrained={run}/merged --include_path eval_tasks "
        "--tasks gsm8k_xml --apply_chat_template --limit 16"
    )
    done = subprocess.run(
        [script("lm_eval"), *typed.split()[1:]],
        cwd=ROOT,
        env={**os.environ, "GSM8K_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "|gsm8k_xml|" in done.stdout
    assert "strict_accuracy" in done.stdout
    assert "Left truncation" not in done.stderr  # lm-eval's words where a prompt has no room
