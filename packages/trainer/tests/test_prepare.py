"""What is refused before the data is read and the model built, and in which order."""

import io
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.lock import one_writer
from xmlgrpo_tasks.workers.sandbox import choose
from xmlgrpo_trainer import prepare as prepare_module
from xmlgrpo_trainer.config.run_config import RunConfig, check_config
from xmlgrpo_trainer.model.load import Placement
from xmlgrpo_trainer.plan.shapes import find_shape
from xmlgrpo_trainer.prepare import adapter_weights, base_model, check_names, check_settings
from xmlgrpo_trainer.ranks.processes import ALONE, Ranks
from xmlgrpo_trainer.train import train

QuickConfig = Callable[..., RunConfig]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"grpo__learnin_rate": 1.0}, "did you mean 'learning_rate'", id="field"),
        pytest.param(
            {"grpo__torch_compile_backend": "foo"}, "trl refuses these settings", id="trl-refuses"
        ),
        pytest.param({"grpo__temperature": 0.0}, "expected above 0", id="greedy"),
        pytest.param({"grpo__top_p": 2.0}, "top_p: expected a number above 0", id="top-p"),
        pytest.param({"grpo__save_total_limit": 1}, "expected 2 or more", id="one-checkpoint"),
        pytest.param({"grpo__num_iterations": 3}, "set save_steps=3", id="save-inside-a-batch"),
        pytest.param({"lora__target_modules": ["lm_head"]}, "tied weights", id="lora"),
        pytest.param({"model__tiny__layers": 0}, "layers", id="tiny-shape"),
        pytest.param({"frozen_norms": True}, "frozen_norms: its kernels need a GPU", id="norms"),
        pytest.param({"rewards": {"corectness_reward_func": 1.0}}, "correctness", id="reward"),
    ],
)
def test_a_setting_is_refused_before_anything_is_read_or_built(
    changes: dict[str, Any],
    words: str,
    tmp_path: Path,
    quick_config: QuickConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_late(*_: Any) -> None:
        pytest.fail("the data was read, or the model built, before the settings were checked")

    monkeypatch.setattr(prepare_module, "load_problems", too_late)
    monkeypatch.setattr(prepare_module, "base_model", too_late)
    with pytest.raises(UserError, match=words):
        train(quick_config(**changes), tmp_path / "run", Console(quiet=True))


def test_fewer_problems_than_a_generation_batch_asks_are_refused_before_the_model(
    tmp_path: Path, quick_config: QuickConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: Any) -> None:
        pytest.fail("the model was built before the problems were counted")

    monkeypatch.setattr(prepare_module, "base_model", too_late)
    with pytest.raises(UserError, match=r"at least \d+ training problems, .* got 1; take more"):
        train(quick_config(data__limit=1), tmp_path / "run", Console(quiet=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"grpo__use_vllm": True}, "grpo.use_vllm cannot be set here", id="setting"),
        pytest.param({"grpo__learnin_rate": 1.0}, "did you mean", id="typo"),
        pytest.param({"grpo__temperature": 0.0}, "above 0", id="greedy"),
        pytest.param({"lora__target_modules": ["lm_head"]}, "tied weights", id="lora"),
        pytest.param({"rewards": {"corectness_reward_func": 1.0}}, "correctness", id="reward"),
        pytest.param({"task": "gsm9k"}, "gsm8k", id="task"),
        pytest.param({"data__path": "gone", "data__source": "json"}, "gone", id="data"),
        pytest.param({"model__name": "./gone"}, "no model folder", id="model"),
    ],
)
def test_a_run_that_is_refused_leaves_no_folder(
    changes: dict[str, Any], words: str, tmp_path: Path, quick_config: QuickConfig
) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(UserError, match=words):
        train(quick_config(**changes), folder.root, Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"rewards": {"corectness_reward_func": 1.0}}, "did you mean", id="reward"),
        pytest.param({"data__path": "gone", "data__source": "json"}, "data.path", id="data"),
        pytest.param(
            {"data__path": __file__, "data__source": "json", "holdout__path": "gone"},
            "holdout.path",
            id="held-out-data",
        ),
        pytest.param({"model__name": "./gone"}, "no model folder", id="model"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused_before_the_libraries_are_read(
    changes: dict[str, Any], words: str, quick_config: QuickConfig
) -> None:
    with pytest.raises(UserError, match=words):
        check_names(quick_config(**changes))


def test_a_machine_that_cannot_grade_is_refused_before_the_libraries_are_read(
    quick_config: QuickConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose.cache_clear()
    monkeypatch.setenv("XMLGRPO_SANDBOX", "no")
    with pytest.raises(UserError, match="XMLGRPO_SANDBOX: expected 'none-i-accept'"):
        check_names(quick_config(task="code", rewards={"correctness": 1.0}))


def test_a_full_disk_is_found_before_the_model_is_built(
    tmp_path: Path, quick_config: QuickConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage(free=2**20))
    with pytest.raises(UserError, match="got 1 MiB; free some space"):
        check_settings(quick_config(), RunFolder(tmp_path), ALONE)


class Usage:
    """What `shutil.disk_usage` returns, as far as it is read."""

    def __init__(self, free: int) -> None:
        self.free = free


def test_unsloth_is_imported_before_a_users_reward_module(
    tmp_path: Path, quick_config: QuickConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That module may import transformers, after which Unsloth's patches do not take."""

    def unsloth(*_: Path) -> None:
        raise UserError("unsloth is imported now")

    (tmp_path / "rewards_with_imports.py").write_text("import transformers\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    placement = Placement(backend="unsloth", device="cuda", dtype="bfloat16", reason="a test")
    monkeypatch.setattr(prepare_module, "choose_placement", lambda _model: placement)
    monkeypatch.setattr(prepare_module, "import_unsloth", unsloth)
    with pytest.raises(UserError, match="unsloth is imported now"):
        check_settings(
            quick_config(rewards={"rewards_with_imports:pays": 1.0}), RunFolder(tmp_path), ALONE
        )
    assert "rewards_with_imports" not in sys.modules


def test_each_of_two_processes_gets_half_of_the_batch(
    tmp_path: Path, quick_config: QuickConfig
) -> None:
    config = quick_config(grpo__per_device_train_batch_size=4, grpo__gradient_accumulation_steps=4)
    arguments = check_settings(config, RunFolder(tmp_path), Ranks(count=2)).arguments
    assert arguments.per_device_train_batch_size == 4
    assert arguments.gradient_accumulation_steps == 2
    assert arguments.ddp_find_unused_parameters is False


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        pytest.param(
            # 26 layers x r 8 x (in + out) of: q 1152 + 1024, k and v 1152 + 256 each, o 1024 + 1152
            # and gate, up, down 1152 + 6912 each
            {"model": {"name": "google/gemma-3-1b-it"}, "lora": {"r": 8}},
            26 * 8 * (2 * 2176 + 2 * 1408 + 3 * 8064),
            id="gemma-3-1b",
        ),
        pytest.param(
            {
                "model": {"name": "google/gemma-3-1b-it"},
                "lora": {"r": 8, "target_modules": ["q_proj"]},
            },
            26 * 8 * 2176,
            id="one-module",
        ),
        pytest.param({"model": {"name": "me/something-else"}}, 0, id="not-known-before-loading"),
    ],
)
def test_the_adapter_is_counted_before_the_model_is_there(
    sections: dict[str, object], expected: int
) -> None:
    config = check_config({**sections, "data": {"source": "hub"}}, "test")
    assert adapter_weights(config) == expected


@pytest.mark.parametrize("name", ["~/models/x", "../models/x"])
def test_a_model_by_a_short_path_is_one_folder_to_all(
    name: str, tmp_path: Path, quick_config: QuickConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models" / "x"
    folder.mkdir(parents=True)
    (tmp_path / "work").mkdir()
    (folder / "config.json").write_text(
        '{"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 8}'
    )
    (folder / "model.safetensors").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "work")
    config = quick_config(model__name=name)
    check_names(config)
    assert find_shape(config.model).layers == 2
    base = base_model(config, tmp_path, Console(quiet=True))
    monkeypatch.chdir("/")
    assert Path(base).samefile(folder)


def test_a_base_that_another_process_builds_is_waited_for_in_words(
    runs: Path, tiny_base: Path, quick_config: QuickConfig
) -> None:
    shown, found = io.StringIO(), []
    waits = threading.Thread(
        target=lambda: found.append(base_model(quick_config(), runs, Console(file=shown)))
    )
    with one_writer(tiny_base.with_name(f".{tiny_base.name}.lock"), ""):
        waits.start()
        began_s = time.monotonic()
        while "waiting for it  0:0" not in shown.getvalue():  # with the time, whichever it is
            assert time.monotonic() < began_s + 60, shown.getvalue()
            time.sleep(0.05)
    waits.join()
    assert found == [str(tiny_base)]
    assert "steps" not in shown.getvalue()
