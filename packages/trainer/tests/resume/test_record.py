"""Every field as the libraries resolved it, in a form that repeats the run."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from peft import LoraConfig

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_trainer.config.library_fields import check_grpo, check_lora
from xmlgrpo_trainer.config.run_config import RunConfig, check_config, load_config
from xmlgrpo_trainer.grpo.trainer import build_arguments
from xmlgrpo_trainer.model.load import Placement
from xmlgrpo_trainer.resume.record import resolved_fields, versions, write_record

PLACEMENT = Placement(backend="plain", device="cpu", dtype="float32", reason="a test")


def with_adapter(lora: dict[str, Any]) -> Any:
    """As far as a peft model is looked at: its adapter's configuration."""
    return SimpleNamespace(peft_config={"default": LoraConfig(task_type="CAUSAL_LM", **lora)})


def resolved(folder: Path, config: RunConfig) -> dict[str, Any]:
    arguments = build_arguments(config, PLACEMENT, folder / "checkpoints", [1.0], 1)
    write_record(
        RunFolder(folder), config, {}, resolved_fields(arguments, with_adapter(config.lora))
    )
    read: dict[str, Any] = json.loads((folder / "resolved.json").read_text(encoding="utf-8"))
    return read


def test_the_libraries_own_defaults_are_in_it(tmp_path: Path) -> None:
    raw = {"grpo": {"max_steps": 7}, "lora": {"r": 4, "target_modules": ["q_proj", "k_proj"]}}
    found = resolved(tmp_path / "run", check_config(raw, "test"))
    assert found["grpo"]["max_steps"] == 7
    assert found["grpo"]["epsilon"] == 0.2  # trl's, named nowhere here
    assert found["grpo"]["lr_scheduler_type"] == "linear"  # an enumeration of transformers
    assert found["lora"]["r"] == 4
    assert found["lora"]["target_modules"] == ["k_proj", "q_proj"]  # a set of peft's
    assert found["lora"]["use_rslora"] is False
    assert str(tmp_path) not in json.dumps(found)


@pytest.mark.parametrize(
    "grpo",
    [
        pytest.param({}, id="defaults"),
        pytest.param(
            {
                "max_steps": 9,
                "gradient_accumulation_steps": 2,
                "steps_per_generation": 4,
                "lr_scheduler_type": "cosine",
                "optim": "adamw_torch",
                "beta": 0.04,
            },
            id="some-set",
        ),
    ],
)
def test_pasted_into_the_configuration_it_is_the_same_run(
    tmp_path: Path, grpo: dict[str, Any]
) -> None:
    first = resolved(tmp_path / "first", check_config({"grpo": grpo}, "test"))
    check_grpo(first["grpo"])
    check_lora(first["lora"])
    again = check_config({"grpo": first["grpo"], "lora": first["lora"]}, "test")
    assert resolved(tmp_path / "again", again) == first


def test_a_run_that_goes_on_keeps_what_it_began_with(tmp_path: Path) -> None:
    (tmp_path / "resolved.json").write_text("{}", encoding="utf-8")
    assert resolved(tmp_path, check_config({}, "test")) == {}


def test_what_changed_under_a_run_is_named(tmp_path: Path) -> None:
    folder, began = RunFolder(tmp_path), {"problems": "aaa", "trl": "1.14.2"}
    for _ in range(2):
        write_record(folder, RunConfig(), began, {})
    with pytest.raises(UserError, match=r"problems: 'aaa' there, 'bbb' here.*restore them"):
        write_record(folder, RunConfig(seed=1), {**began, "problems": "bbb"}, {})
    assert load_config(folder.config) == RunConfig()


def test_versions_name_what_a_result_depends_on() -> None:
    assert {"torch", "transformers", "trl", "peft"} <= versions().keys()


def begin(folder: Path, base: Path, **identity: str) -> None:
    write_record(RunFolder(folder), check_config({}, "test"), identity, {}, base)


def write_base(folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        pytest.param(
            lambda run, base: (base / "model.safetensors").write_bytes(b"weightz"),
            r"model\.safetensors is damaged or was changed",
            id="other-weights",
        ),
        pytest.param(
            lambda run, base: (base / "config.json").unlink(), "is missing", id="no-config"
        ),
        pytest.param(lambda run, base: run.write_bytes(b""), "is not JSON", id="empty"),
        pytest.param(lambda run, base: run.write_text("[1]"), "JSON object", id="list"),
        pytest.param(
            lambda run, base: run.write_text(run.read_text().replace('"rows": "1"', '"rows": "2"')),
            "is damaged or was changed",
            id="edited",
        ),
        pytest.param(lambda run, base: (run.unlink(), run.mkdir()), "is not a file", id="a-folder"),
        pytest.param(
            lambda run, base: (run.unlink(), run.symlink_to("/proc/self/mem")),
            "Input/output error",
            id="input-output-error",
        ),
    ],
)
def test_a_run_does_not_go_on_over_what_has_changed(tmp_path: Path, harm: Any, words: str) -> None:
    base, run = write_base(tmp_path / "base"), tmp_path / "run"
    begin(run, base, rows="1")
    begin(run, base, rows="1")
    with pytest.raises(UserError, match="rows: '1' there, '2' here"):
        begin(run, base, rows="2")
    harm(RunFolder(run).identity, base)
    with pytest.raises(UserError, match=words):
        begin(run, base, rows="1")


def test_a_base_that_was_only_copied_is_the_same(tmp_path: Path) -> None:
    base, run = write_base(tmp_path / "base"), tmp_path / "run"
    begin(run, base)
    for path in base.iterdir():
        path.write_bytes(path.read_bytes())  # another time, the same bytes
        os.utime(path, (1, 1))
    begin(run, base)
