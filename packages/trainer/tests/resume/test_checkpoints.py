"""Which checkpoint is continued from, and what a signal does."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from xmlgrpo_rewards.console_script import interruption_code
from xmlgrpo_run.stop_signals import StopSignals
from xmlgrpo_trainer.ranks.processes import Ranks
from xmlgrpo_trainer.resume.checkpoints import (
    SEAL,
    find_checkpoints,
    remove_unfinished,
    seal,
    set_aside,
)
from xmlgrpo_trainer.resume.stopping import StepStart, StopAndSave


def write_checkpoint(root: Path, step: int) -> Path:
    folder = root / f"checkpoint-{step}"
    (folder / "sub").mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "sub" / "trainer_state.json").write_text("{}")
    seal(folder)
    return folder


def test_the_newest_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        write_checkpoint(tmp_path, step)
    assert find_checkpoints(tmp_path).newest == tmp_path / "checkpoint-10"


def truncate(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"wei")


def flip(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"weighty"[:7])


def swap(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors").mkdir()


def pipe(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    os.mkfifo(folder / "adapter_model.safetensors")


def unreadable(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors").symlink_to("/proc/self/mem")  # reading is an EIO


def reseal(folder: Path) -> None:
    """A list that vouches for other bytes, changed by hand."""
    sealed = json.loads((folder / SEAL).read_text())
    sealed["files"].clear()
    (folder / SEAL).write_text(json.dumps(sealed))


def lose(folder: Path) -> None:
    (folder / "sub" / "trainer_state.json").unlink()


def unseal(folder: Path) -> None:
    (folder / SEAL).unlink()


def half_seal(folder: Path) -> None:
    (folder / SEAL).write_text('{"step": 10, "fi')


def wrong_seal(folder: Path) -> None:
    (folder / SEAL).write_text(json.dumps(["step", 10]))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "is damaged or was changed"),
        (flip, "is damaged or was changed"),
        (lose, "is missing"),
        (swap, "is not a file"),
        (pipe, "is not a file"),
        (unreadable, "cannot read"),
        (unseal, "was not written to its end"),
        (half_seal, "is not JSON"),
        (wrong_seal, "expected a JSON object, got list"),
        (reseal, "is damaged or was changed"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_says_why(
    tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    good, broken = write_checkpoint(tmp_path, 8), write_checkpoint(tmp_path, 10)
    assert find_checkpoints(tmp_path).newest == broken
    damage(broken)
    found = find_checkpoints(tmp_path)
    assert found.newest == good
    assert words in found.damaged[broken]
    damage(good)
    assert list(find_checkpoints(tmp_path).damaged) == [broken, good]
    assert find_checkpoints(tmp_path).newest is None


def test_what_a_kill_has_cut_off_is_removed_and_no_more(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8, 10):
        write_checkpoint(tmp_path, step)
    unseal(tmp_path / "checkpoint-10")  # killed while it was written
    lose(tmp_path / "checkpoint-2")  # killed while it was removed
    flip(tmp_path / "checkpoint-4")
    pipe_for_seal = tmp_path / "checkpoint-6" / SEAL
    pipe_for_seal.unlink()
    os.mkfifo(pipe_for_seal)
    newest = find_checkpoints(tmp_path).newest
    assert newest == tmp_path / "checkpoint-8"
    removed = remove_unfinished(tmp_path, newest)
    assert [path.name for path in removed] == ["checkpoint-10", "checkpoint-2"]
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["checkpoint-4", "checkpoint-6", "checkpoint-8"]


def test_a_damaged_checkpoint_is_kept_under_another_name(tmp_path: Path) -> None:
    broken = write_checkpoint(tmp_path, 10)
    for content in (b"old", b"new"):
        broken.mkdir(exist_ok=True)
        (broken / "weights").write_bytes(content)
        aside = set_aside(broken)
        assert not broken.exists()
        assert (aside / "weights").read_bytes() == content
    assert find_checkpoints(tmp_path).newest is None


def test_nothing_to_continue_from(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-best").mkdir()
    assert find_checkpoints(tmp_path).newest is None
    assert find_checkpoints(tmp_path / "missing").newest is None


def control() -> SimpleNamespace:
    return SimpleNamespace(should_save=False, should_training_stop=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_between_two_generation_batches(number: int) -> None:
    stopper, before = StopAndSave(every=4), signal.getsignal(number)
    stopper.on_train_begin(None, None, None)
    try:
        os.kill(os.getpid(), number)
        inside, between = control(), control()
        stopper.on_step_end(None, SimpleNamespace(global_step=6), inside)
        stopper.on_step_end(None, SimpleNamespace(global_step=8), between)
    finally:
        stopper.release()
    assert inside == SimpleNamespace(should_save=False, should_training_stop=False)
    assert between == SimpleNamespace(should_save=True, should_training_stop=True)
    assert stopper.received == number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(number: int) -> None:
    before = signal.getsignal(number)
    with StopSignals() as signals:
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt) as stopped:
            os.kill(os.getpid(), number)
        assert signals.received == number
    assert interruption_code(stopped.value) == 128 + number
    assert stopped.value.args == ()  # the stage that it ends in has the words
    assert signal.getsignal(number) is before


def test_a_signal_that_reaches_one_of_several_processes_twice_is_one_wish() -> None:
    stopper = StopAndSave(1, Ranks(count=2))
    stopper.on_train_begin(None, None, None)
    try:
        for _ in range(2):  # once from the scheduler, once from the launcher
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        stopper.release()
    assert stopper.signals.received == signal.SIGTERM


def test_without_a_signal_nothing_is_asked_for() -> None:
    stopper, asked = StopAndSave(), control()
    stopper.on_step_end(None, SimpleNamespace(global_step=1), asked)
    assert asked == control()


def test_a_steps_start_comes_back() -> None:
    state, start = SimpleNamespace(num_input_tokens_seen=100), StepStart()
    start.on_step_begin(None, state, None)
    first = torch.rand(3)
    state.num_input_tokens_seen = 180
    start.restore(state)
    assert torch.equal(torch.rand(3), first)
    assert state.num_input_tokens_seen == 100
