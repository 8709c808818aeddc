"""trl's own command, paid by a task's rewards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xmlgrpo_rewards import get_task
from xmlgrpo_rewards.commands.rows import write_rows

STEPS = 2


@pytest.mark.adapters
def test_trl_grpo_trains_on_rewards_named_by_import_path(tmp_path: Path) -> None:
    from xmlgrpo_trainer.tiny.build import ensure_tiny_model
    from xmlgrpo_trainer.tiny.settings import TinySettings

    settings = TinySettings(hidden_size=64, head_dim=16, mlp_size=192, warm_steps=2, warm_threads=1)
    model = ensure_tiny_model(tmp_path / "base", settings, seed=0)
    write_rows(get_task("json_qa"), tmp_path / "data", train=8, test=2, seed=0, trainer="trl")
    rewards = ("json_qa", "json_qa_parses", "json_qa_strict_format_reward_func")
    options = {
        "model_name_or_path": str(model),
        "dataset_name": str(tmp_path / "data"),
        "output_dir": str(tmp_path / "out"),
        "max_steps": STEPS,
        "logging_steps": 1,
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "max_completion_length": 8,
        "report_to": "none",
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    names = [f"xmlgrpo_rewards.adapters.trl.{name}" for name in rewards]
    command = [str(Path(sys.executable).with_name("trl")), "grpo", *words, "--reward_funcs", *names]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    state = json.loads(
        (tmp_path / "out" / f"checkpoint-{STEPS}" / "trainer_state.json").read_text()
    )
    logged = [entry for entry in state["log_history"] if "reward" in entry]
    assert len(logged) == STEPS
    assert all(f"rewards/{name}/mean" in entry for entry in logged for name in rewards)
