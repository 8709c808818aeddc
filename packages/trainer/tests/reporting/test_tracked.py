"""What trackers are told, as TensorBoard's writer gets it: values as they are, alerts once."""

import io
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from transformers import TrainerControl
from transformers.integrations import TensorBoardCallback

from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.metrics import append_row
from xmlgrpo_trainer.config.run_config import RunConfig, WatchConfig
from xmlgrpo_trainer.reporting.steps import NotFiniteError, Watch
from xmlgrpo_trainer.reporting.trackers import Trackers


class Writer:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int]] = []
        self.texts: list[tuple[str, str, int]] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def add_text(self, name: str, text: str, step: int) -> None:
        self.texts.append((name, text, step))

    def flush(self) -> None:
        """Nothing is kept back."""


def trackers(root: Path) -> tuple[Trackers, Writer]:
    callback: Any = TensorBoardCallback.__new__(TensorBoardCallback)  # without its package
    callback.tb_writer = Writer()
    return Trackers(RunConfig(), RunFolder(root), [object(), callback]), callback.tb_writer


def log_cut_replies(root: Path, steps: range) -> None:
    for step in steps:
        row = {"step": step, "reward": 1.0, "completions/clipped_ratio": 1.0}
        append_row(RunFolder(root).metrics, row)


def test_a_finding_is_alerted_to_once_and_not_again_by_a_continued_run(tmp_path: Path) -> None:
    first, writer = trackers(tmp_path)
    first.begin()
    log_cut_replies(tmp_path, range(1, 4))
    first.alert(3)
    assert [name for name, _, _ in writer.texts] == ["xmlgrpo"]  # too early to judge
    log_cut_replies(tmp_path, range(4, 8))
    first.alert(7)
    first.alert(8)
    told = [name for name, _, _ in writer.texts[1:]]
    assert told
    assert len(told) == len(set(told))
    assert all(step == 7 and "100%" in text for _, text, step in writer.texts[1:])
    again, writer = trackers(tmp_path)
    again.begin()
    again.alert(9)
    assert [name for name, _, _ in writer.texts] == ["xmlgrpo"]


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    made, writer = trackers(tmp_path)
    made.log(2, {"sampled/lenient": 0.5, "rewards/mine/mean": None})
    assert writer.scalars == [("sampled/lenient", 0.5, 2)]


@pytest.mark.parametrize("end", ["stopped early", "weights lost"])
def test_the_last_step_is_alerted_to_however_the_run_ends(tmp_path: Path, end: str) -> None:
    told, writer = trackers(tmp_path)
    config = WatchConfig(samples_every=100)
    watch = Watch(
        RunFolder(tmp_path),
        get_task("gsm8k"),
        [],
        config,
        Console(file=io.StringIO()),
        trackers=told,
    )
    told.begin()
    log_cut_replies(tmp_path, range(1, 7))
    step: Any = SimpleNamespace(global_step=7, max_steps=40)
    logs = {"loss": 0.1, "grad_norm": 0.5, "reward": 1.0, "completions/clipped_ratio": 1.0}
    watch.on_step_begin(None, step, None)
    if end == "stopped early":
        watch.on_log(None, step, TrainerControl(should_training_stop=True), logs=logs)
    else:
        with pytest.raises(NotFiniteError):
            watch.on_log(None, step, TrainerControl(), logs=logs | {"grad_norm": math.nan})
    assert any(name.startswith("doctor/") and at == 7 for name, _, at in writer.texts)
