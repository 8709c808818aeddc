"""A run folder is opened once at a time, continued, or refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.run_folder import RunFolder, run_root
from xmlgrpo_trainer.config import RunConfig, check_config
from xmlgrpo_trainer.run_dir import hold_identity, open_run, versions, write_config


def other(**grpo: object) -> RunConfig:
    return check_config({"grpo": grpo, "seed": 3}, "test")


def begin(root: Path) -> None:
    write_config(RunFolder(root), RunConfig())
    (root / "holdout").mkdir()


def test_new_then_unfinished_then_finished(tmp_path: Path) -> None:
    root, states = tmp_path / "run", []
    with open_run(root, RunConfig()) as run:
        states.append(run.state)
    begin(root)
    for finished in (False, True, True):
        if finished:
            (root / "manifest.json").write_text("{}")
        with open_run(root, RunConfig()) as run:
            states.append(run.state)
    assert states == ["new", "unfinished", "finished", "finished"]


def test_another_configuration_is_refused_and_named(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", RunConfig()):
        begin(tmp_path / "run")
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with (
        pytest.raises(UserError, match=r"grpo\.max_steps: None there, 9 here; seed: 0 there, 3"),
        open_run(tmp_path / "run", other(max_steps=9)),
    ):
        pass
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


def test_a_run_that_was_refused_leaves_its_name_free(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", other(learnin_rate=1.0)):
        (tmp_path / "run" / "checkpoints").mkdir()  # trl does, before an engine refuses
    assert not (tmp_path / "run" / "config.yaml").exists()
    with open_run(tmp_path / "run", RunConfig()) as run:
        assert run.state == "new"
    begin(tmp_path / "run")
    with open_run(tmp_path / "run", RunConfig()) as run:
        assert run.state == "unfinished"


def test_what_changed_under_a_run_is_named(tmp_path: Path) -> None:
    began = {"problems": "aaa", "trl": "1.14.2"}
    hold_identity(tmp_path / "identity.json", began)
    hold_identity(tmp_path / "identity.json", began)
    with pytest.raises(UserError, match=r"problems: 'aaa' there, 'bbb' here.*restore that"):
        hold_identity(tmp_path / "identity.json", {**began, "problems": "bbb"})


def test_two_trainers_at_once_are_refused(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from xmlgrpo_trainer.config import RunConfig\n"
        "from xmlgrpo_trainer.run_dir import open_run\n"
        "with open_run(Path(sys.argv[1]), RunConfig()): pass\n"
    )
    with open_run(tmp_path / "run", RunConfig()):
        second = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "run")],
            capture_output=True,
            text=True,
            check=False,
        )
    assert second.returncode != 0
    assert "another process is training" in second.stderr


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("not a folder")
    with (
        pytest.raises(UserError, match="cannot write into the run folder"),
        open_run(tmp_path / "run", RunConfig()),
    ):
        pass


def test_a_config_that_was_damaged_is_named(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", RunConfig()):
        begin(tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("sed: 0")
    with (
        pytest.raises(UserError, match=r"config\.yaml: unknown key 'sed'; did you mean 'seed'"),
        open_run(tmp_path / "run", RunConfig()),
    ):
        pass


def test_versions_name_what_a_result_depends_on() -> None:
    assert {"torch", "transformers", "trl", "peft"} <= versions().keys()


@pytest.mark.parametrize(
    ("name", "root"),
    [
        pytest.param("tiny", "outputs/tiny", id="name"),
        pytest.param("outputs/tiny", "outputs/tiny", id="folder"),
        pytest.param("/data/run", "/data/run", id="absolute"),
        pytest.param("./run", "run", id="dot-slash"),
    ],
)
def test_a_run_is_named_or_a_folder(name: str, root: str) -> None:
    assert run_root(name) == Path(root)


def test_an_empty_run_name_is_refused() -> None:
    with pytest.raises(UserError, match="expected a name or a folder"):
        run_root("  ")
