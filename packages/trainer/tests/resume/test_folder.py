"""A run folder is opened once at a time, continued, or refused."""

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import read_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_trainer.config.run_config import RunConfig, check_config
from xmlgrpo_trainer.resume.opening import open_run
from xmlgrpo_trainer.resume.record import write_record


def other(**grpo: object) -> RunConfig:
    return check_config({"grpo": grpo, "seed": 3}, "test")


def begin(root: Path) -> None:
    write_record(RunFolder(root), RunConfig(), {}, {})
    (root / "holdout").mkdir()


def test_new_then_unfinished_then_finished(tmp_path: Path) -> None:
    root, states = tmp_path / "run", []
    with open_run(RunFolder(root), RunConfig()) as state:
        states.append(state)
    begin(root)
    for finished in (False, True, True):
        if finished:
            (root / "manifest.json").write_text("{}")
        with open_run(RunFolder(root), RunConfig()) as state:
            states.append(state)
    assert states == ["new", "unfinished", "finished", "finished"]


def test_another_configuration_is_refused_and_named(tmp_path: Path) -> None:
    with open_run(RunFolder(tmp_path / "run"), RunConfig()):
        begin(tmp_path / "run")
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with (
        pytest.raises(UserError, match=r"grpo\.max_steps: None there, 9 here; seed: 0 there, 3"),
        open_run(RunFolder(tmp_path / "run"), other(max_steps=9)),
    ):
        pass
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


def test_a_run_that_was_refused_leaves_its_name_free(tmp_path: Path) -> None:
    with open_run(RunFolder(tmp_path / "run"), other(learnin_rate=1.0)):
        (tmp_path / "run" / "checkpoints").mkdir()  # trl does, before an engine refuses
    assert not (tmp_path / "run" / "config.yaml").exists()
    with open_run(RunFolder(tmp_path / "run"), RunConfig()) as state:
        assert state == "new"
    begin(tmp_path / "run")
    with open_run(RunFolder(tmp_path / "run"), RunConfig()) as state:
        assert state == "unfinished"


@pytest.mark.parametrize("error", [UserError("refused"), KeyboardInterrupt(), ValueError("a bug")])
def test_a_run_that_was_refused_leaves_no_folder(tmp_path: Path, error: BaseException) -> None:
    def refused() -> None:
        folder = RunFolder(tmp_path / "a" / "b" / "run")
        with open_run(folder, RunConfig()):
            write_record(folder, RunConfig(), {}, {})
            folder.checkpoints.mkdir()
            raise error

    with pytest.raises(type(error)):
        refused()
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_before_a_refused_run_stays(tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    (root / "notes.txt").write_text("mine")
    with pytest.raises(UserError), open_run(RunFolder(root), RunConfig()):
        raise UserError("refused")
    assert [path.name for path in root.iterdir()] == ["notes.txt"]


def test_a_run_that_has_begun_is_kept_however_it_ends(tmp_path: Path) -> None:
    def failed() -> None:
        with open_run(RunFolder(tmp_path / "run"), RunConfig()):
            begin(tmp_path / "run")
            raise UserError("a reward function failed")

    with pytest.raises(UserError):
        failed()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *(".lock", "config.yaml", "ended.json", "holdout", "identity.json", "resolved.json"),
    }


def test_two_trainers_at_once_are_refused(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from xmlgrpo_trainer.config.run_config import RunConfig\n"
        "from xmlgrpo_run.folder import RunFolder\n"
        "from xmlgrpo_trainer.resume.opening import open_run\n"
        "with open_run(RunFolder(Path(sys.argv[1])), RunConfig()): pass\n"
    )
    with open_run(RunFolder(tmp_path / "run"), RunConfig()):
        second = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "run")],
            capture_output=True,
            text=True,
            check=False,
        )
    assert second.returncode != 0
    assert "another process is training" in second.stderr


def test_a_lock_that_a_refused_run_has_taken_away_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked: list[IO[bytes]] = []

    def flock(lock: IO[bytes], how: int) -> None:
        fcntl_flock(lock, how)
        if not locked:  # between the opening and the locking of the file
            (tmp_path / "run" / ".lock").unlink()
            (tmp_path / "run").rmdir()
        locked.append(lock)

    fcntl_flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock)
    with open_run(RunFolder(tmp_path / "run"), RunConfig()):
        assert (tmp_path / "run" / ".lock").is_file()
    assert len(locked) == 2


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("not a folder")
    with (
        pytest.raises(UserError, match="cannot write into"),
        open_run(RunFolder(tmp_path / "run"), RunConfig()),
    ):
        pass


def test_a_config_that_was_damaged_is_named(tmp_path: Path) -> None:
    with open_run(RunFolder(tmp_path / "run"), RunConfig()):
        begin(tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("sed: 0")
    with (
        pytest.raises(UserError, match=r"config\.yaml: unknown key 'sed'; did you mean 'seed'"),
        open_run(RunFolder(tmp_path / "run"), RunConfig()),
    ):
        pass


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (UserError("loss is nan at step 7"), "loss is nan at step 7"),
        (KeyboardInterrupt("the training is kept"), "stopped by Ctrl-C"),
        (ValueError("a bug"), "ValueError: a bug"),
        (None, "stopped by a signal; saved before it ended"),
    ],
)
def test_why_an_unfinished_run_has_ended_is_kept_until_it_goes_on(
    tmp_path: Path, error: BaseException | None, why: str
) -> None:
    folder = RunFolder(tmp_path / "run")

    def trained() -> None:
        with open_run(folder, RunConfig()):
            begin(folder.root)
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            trained()
    else:
        trained()
    assert read_json(folder.ended)["why"] == why
    with open_run(folder, RunConfig()) as state:
        assert (state, folder.ended.exists()) == ("unfinished", False)
        folder.manifest.write_text("{}")
    assert not folder.ended.exists()
