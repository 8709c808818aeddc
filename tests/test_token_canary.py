"""A token in the environment is found nowhere in what a training run writes or prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HUB_CANARY = "hf_" + "CanaryThatMustNotLeak0000000000000"
WANDB_CANARY = "c0ffee" * 6 + "c0ff"

COMMANDS = (
    *("xmlgrpo_rewards.validate", "xmlgrpo_exporter.cli", "xmlgrpo_evaluator.cli"),
    *("xmlgrpo_evaluator.report", "xmlgrpo_trainer.cli", "xmlgrpo_trainer.ask.command"),
    *("xmlgrpo_trainer.plan.command", "xmlgrpo_trainer.doctor.command"),
)

OVERRIDES = (
    *(
        "grpo.max_steps=2",
        "grpo.save_steps=1",
        "holdout.report_rows=8",
        "holdout.validation_rows=8",
    ),
    *("model.tiny.warm_steps=20", "data.generated_rows=32", "watch.wandb=offline"),
)


@pytest.mark.slow
def test_a_canary_token_is_in_no_file_and_no_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "xmlgrpo_trainer.cli", "--config", "configs/tiny.yaml"),
            *("--run", str(tmp_path / "run"), *OVERRIDES),
        ],
        cwd=ROOT,
        env={**os.environ, "HF_TOKEN": HUB_CANARY, "WANDB_API_KEY": WANDB_CANARY},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    # what is searched is really there: checkpoints with pickles, wandb's own file, the result
    assert {"training_args.bin", "optimizer.pt", "manifest.json", "metrics.jsonl"} <= names
    assert any(name.endswith(".wandb") for name in names)
    for canary in (HUB_CANARY.encode(), WANDB_CANARY.encode()):
        assert canary not in done.stdout + done.stderr
        assert [path for path in files if canary in path.read_bytes()] == []


@pytest.mark.parametrize("module", COMMANDS)
def test_a_token_on_the_command_line_is_refused_and_not_repeated(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"from {module} import main; main()", "--token", HUB_CANARY],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "holds a Hugging Face token" in done.stderr
    assert HUB_CANARY not in done.stdout + done.stderr
