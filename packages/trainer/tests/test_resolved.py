"""Every field as the libraries resolved it, in a form that repeats the run."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from peft import LoraConfig

from xmlgrpo_trainer.config.library_fields import check_grpo, check_lora
from xmlgrpo_trainer.config.resolved import RESOLVED, hold_resolved
from xmlgrpo_trainer.config.run_config import RunConfig, check_config
from xmlgrpo_trainer.grpo.trainer import build_arguments
from xmlgrpo_trainer.model.load import Placement

PLACEMENT = Placement(backend="plain", device="cpu", dtype="float32", reason="a test")


def with_adapter(lora: dict[str, Any]) -> Any:
    """As far as a peft model is looked at: its adapter's configuration."""
    return SimpleNamespace(peft_config={"default": LoraConfig(task_type="CAUSAL_LM", **lora)})


def resolved(folder: Path, config: RunConfig) -> dict[str, Any]:
    folder.mkdir()
    arguments = build_arguments(config, PLACEMENT, folder / "checkpoints", [1.0], 1)
    hold_resolved(folder, arguments, with_adapter(config.lora))
    read: dict[str, Any] = json.loads((folder / RESOLVED).read_text(encoding="utf-8"))
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
    (tmp_path / RESOLVED).write_text("{}", encoding="utf-8")
    config = check_config({}, "test")
    arguments = build_arguments(config, PLACEMENT, tmp_path / "checkpoints", [1.0], 1)
    hold_resolved(tmp_path, arguments, with_adapter({}))
    assert (tmp_path / RESOLVED).read_text(encoding="utf-8") == "{}"
