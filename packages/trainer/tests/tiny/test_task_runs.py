"""A short run of each task that has a tiny base of its own: the way, not the result."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from xmlgrpo_rewards.rows import text_rows
from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest
from xmlgrpo_run.metrics import read_log
from xmlgrpo_trainer.config.run_config import load_config
from xmlgrpo_trainer.train import train

CONFIGS = Path(__file__).parents[4] / "configs"
SHORT = [
    *("model.tiny.hidden_size=32", "model.tiny.layers=1", "model.tiny.mlp_size=48"),
    *("model.tiny.head_dim=8", "model.tiny.warm_steps=4", "model.tiny.warm_batch=8"),
    *("holdout.report_rows=8", "holdout.validation_rows=4", "data.generated_rows=20"),
    *("grpo.max_steps=2", "grpo.per_device_train_batch_size=8", "grpo.max_completion_length=16"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["json", "sql", "code"])
def test_each_task_is_trained_on_its_own_base_and_rows(name: str, tmp_path: Path) -> None:
    config = load_config(CONFIGS / f"tiny-{name}.yaml", SHORT)
    run = RunFolder(tmp_path / name)
    assert train(config, run.root, Console(file=io.StringIO())) == 0
    manifest = read_manifest(run)
    assert (manifest.task, manifest.base.tiny) == (config.task, True)
    base = Path(manifest.base.source(run))
    assert base.name.startswith(f"tiny-{config.task}-")
    task = get_task(config.task)
    kept = [task.example(row.fields, row.id) for row in text_rows(run.holdout_items)]
    assert len(kept) == 8
    assert all(task.gold_fault(problem) is None for problem in kept)  # type: ignore[attr-defined]
    paid = {f"rewards/{reward}/mean" for reward in config.rewards}
    assert paid <= read_log(run.metrics).names()
