"""Trackers get where to write and which run this is, and nothing else."""

import os
from pathlib import Path

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_trainer.config.run_config import WatchConfig
from xmlgrpo_trainer.reporting import tracker_setup
from xmlgrpo_trainer.reporting.tracker_setup import (
    SENDING,
    check_trackers,
    prepare_trackers,
    prepare_wandb,
    run_id,
)

SET = ("MODE", "DIR", "PROJECT", "RUN_ID", "RESUME", "CONSOLE", "DISABLE_GIT")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without wandb's variables, and without those that a test sets afterwards."""
    for name in SET:
        monkeypatch.setenv(f"WANDB_{name}", "")
        monkeypatch.delenv(f"WANDB_{name}")


def test_off_sets_nothing(tmp_path: Path) -> None:
    prepare_wandb(WatchConfig(), RunFolder(tmp_path))
    assert not [name for name in SET if f"WANDB_{name}" in os.environ]
    assert list(tmp_path.iterdir()) == []


def test_a_continued_run_goes_on_in_the_same_wandb_run(tmp_path: Path) -> None:
    watch = WatchConfig(wandb="offline", wandb_project="sums")
    folder = RunFolder(tmp_path / "run")
    prepare_wandb(watch, folder)
    first = os.environ["WANDB_RUN_ID"]
    assert (os.environ["WANDB_MODE"], os.environ["WANDB_PROJECT"]) == ("offline", "sums")
    assert os.environ["WANDB_RESUME"] == "allow"
    assert Path(os.environ["WANDB_DIR"]) == folder.root.resolve()
    prepare_wandb(watch, folder)
    assert os.environ["WANDB_RUN_ID"] == first


def test_the_id_moves_with_the_folder_and_another_run_has_another(tmp_path: Path) -> None:
    before, moved = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "elsewhere")
    first = run_id(before)
    before.root.rename(moved.root)
    assert run_id(moved) == first
    assert run_id(before) != first  # a new run under the old name


@pytest.mark.parametrize("size", [0, 1 << 40])
def test_an_id_that_is_none_is_refused(tmp_path: Path, size: int) -> None:
    folder = RunFolder(tmp_path)
    folder.wandb_id.touch()
    os.truncate(folder.wandb_id, size)
    with pytest.raises(UserError, match="holds no id of a wandb run; delete it"):
        run_id(folder)


@pytest.mark.parametrize(
    ("watch", "words"),
    [
        (WatchConfig(wandb="offline"), "watch.wandb asks for wandb, but the package wandb is not"),
        (WatchConfig(trackers=["trackio"]), r"\.venv/bin/pip install trackio, or leave watch\."),
        (WatchConfig(trackers=["tensorboard"]), "watch.trackers asks for tensorboard, but the"),
    ],
)
def test_a_missing_tracker_is_named(
    watch: WatchConfig, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_setup, "is_installed", lambda _name: False)
    check_trackers(WatchConfig())
    with pytest.raises(UserError, match=words):
        check_trackers(watch)


def test_trackers_write_into_the_run_folder_and_send_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*SENDING, "TRACKIO_DIR", "TENSORBOARD_LOGGING_DIR"):
        monkeypatch.setenv(name, "elsewhere")
    prepare_trackers(WatchConfig(), RunFolder(tmp_path))
    assert not [name for name in SENDING if name in os.environ]
    assert os.environ["TRACKIO_DIR"] == str(tmp_path / "trackio")
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "tensorboard")
