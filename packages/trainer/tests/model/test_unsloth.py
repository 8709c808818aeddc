"""The Unsloth backend, as far as it can be checked without Unsloth."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import trl
from torch import nn

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.run_config import RunConfig, check_config, reply_limit
from xmlgrpo_trainer.model import unsloth as unsloth_backend
from xmlgrpo_trainer.model.load import choose_placement
from xmlgrpo_trainer.model.unsloth import (
    SETTINGS,
    import_unsloth,
    load,
    restore_after_generate,
    trl_arguments,
)


class GRPOConfig(trl.GRPOConfig):  # type: ignore[misc]  # trl's types are not followed
    """Has what Unsloth 2026.10.7's class of this name has: defaults, overrides, own fields."""

    def __init__(
        self,
        *,
        optim: str = "adamw_8bit",
        weight_decay: float = 0.001,
        gradient_accumulation_steps: int = 2,
        loss_type: str | None = None,
        mask_truncated_completions: bool | None = None,
        epsilon_high: float | None = None,
        unsloth_num_chunks: int = -1,
        **others: Any,
    ) -> None:
        if loss_type == "dapo":
            mask_truncated_completions, epsilon_high = True, 0.28
        super().__init__(
            optim=optim,
            weight_decay=weight_decay,
            gradient_accumulation_steps=gradient_accumulation_steps,
            loss_type=loss_type or "dapo",
            mask_truncated_completions=bool(mask_truncated_completions),
            epsilon_high=epsilon_high,
            **others,
        )
        self.unsloth_num_chunks = unsloth_num_chunks
        self.gradient_checkpointing_kwargs = {"use_reentrant": True}


FIELDS = {"num_generations": 2, "per_device_train_batch_size": 4, "use_cpu": True, "bf16": False}


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"loss_type": "dapo"}, id="override"),
        pytest.param({"weight_decay": 0.1, "optim": "sgd"}, id="asked-for"),
    ],
)
def test_values_are_those_of_trl(asked: dict[str, Any], tmp_path: Path) -> None:
    fields = {**FIELDS, **asked, "output_dir": str(tmp_path)}
    plain = trl_arguments(trl.GRPOConfig, fields)
    replaced = trl_arguments(GRPOConfig, fields)
    assert type(plain) is trl.GRPOConfig
    assert type(replaced) is GRPOConfig
    different = {n: v for n, v in plain.to_dict().items() if replaced.to_dict()[n] != v}
    assert list(different) == ["gradient_checkpointing_kwargs"]
    assert replaced.steps_per_generation == plain.steps_per_generation == 1


def test_unsloths_own_fields_reach_it(tmp_path: Path) -> None:
    fields = {**FIELDS, "output_dir": str(tmp_path), "unsloth_num_chunks": 4}
    assert trl_arguments(GRPOConfig, fields).unsloth_num_chunks == 4


def test_too_late_for_unsloth(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be imported before trl, .*start a new process"):
        import_unsloth(tmp_path)  # this module has imported trl


def test_what_unsloth_reads_is_set_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsloth_backend, "BEFORE", ())
    monkeypatch.setitem(sys.modules, "unsloth", ModuleType("unsloth"))
    names = [*SETTINGS, "UNSLOTH_COMPILE_LOCATION"]
    for name in names:
        monkeypatch.setenv(name, "to be restored after the test")
        monkeypatch.delenv(name)
    monkeypatch.setenv("UNSLOTH_COMPILE_DISABLE", "0")
    import_unsloth(tmp_path / "written")
    assert os.environ["UNSLOTH_ENABLE_FLEX_ATTENTION"] == "0"
    assert os.environ["UNSLOTH_COMPILE_DISABLE"] == "0", "what the user has set stays"
    assert os.environ["UNSLOTH_COMPILE_LOCATION"] == str(tmp_path / "written")


def test_unsloth_has_no_float32() -> None:
    config = check_config({"model": {"backend": "unsloth", "dtype": "float32"}}, "here")
    with pytest.raises(UserError, match=r"Unsloth computes in 16 bits"):
        choose_placement(config.model)


@pytest.mark.parametrize(
    ("held_out", "longest"), [pytest.param(None, 64, id="same"), pytest.param(90, 90, id="longer")]
)
def test_longest_reply_counts_held_out_ones(held_out: int | None, longest: int) -> None:
    raw = {"grpo": {"max_completion_length": 64}, "holdout": {"max_new_tokens": held_out}}
    assert reply_limit(check_config(raw, "here")) == longest


class Answering(nn.Module):
    """Switches itself as Unsloth's models do: checkpointing off to answer, on to be trained."""

    gradient_checkpointing: Any = "unsloth"
    vllm_engine: object

    def generate(self, *, fails: bool = False) -> str:
        self.gradient_checkpointing = False
        if fails:
            raise MemoryError
        return "<answer>"

    def for_training(self, use_gradient_checkpointing: Any) -> None:
        self.gradient_checkpointing = use_gradient_checkpointing
        self.train()


@pytest.mark.parametrize("fails", [False, True], ids=["answers", "fails"])
def test_a_model_that_has_answered_is_trained_as_before(fails: bool) -> None:
    model = Answering()
    restore_after_generate(model, "unsloth")
    with pytest.raises(MemoryError) if fails else nullcontext():
        assert model.generate(fails=fails) == "<answer>"
    assert model.gradient_checkpointing == "unsloth"
    assert not model.training, "who asks it switches training on again"


class Recorder:
    """Stands for `unsloth.FastModel`: keeps what it is asked, gives back a model."""

    def __init__(self, *, has_engine: bool) -> None:
        self.has_engine = has_engine
        self.asked: dict[str, Any] = {}

    def from_pretrained(self, **asked: Any) -> tuple[nn.Module, Any]:
        self.asked = asked
        model = Answering()
        if self.has_engine:
            model.vllm_engine = object()
        return model, SimpleNamespace()

    def get_peft_model(self, model: nn.Module, **_: Any) -> nn.Module:
        return model


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        pytest.param(None, {}, id="no-vllm"),
        pytest.param(
            0.4,
            {"fast_inference": True, "gpu_memory_utilization": 0.4, "max_lora_rank": 32},
            id="vllm",
        ),
    ],
)
def test_vllm_is_asked_for_as_unsloth_documents(
    share: float | None, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = loaded_through(monkeypatch, has_engine=share is not None)
    load(*loading("graph" if share is None else "vllm"))
    names = ("fast_inference", "gpu_memory_utilization", "max_lora_rank")
    assert {name: recorder.asked[name] for name in names if name in recorder.asked} == expected
    assert recorder.asked["max_seq_length"] == 768


def test_a_model_that_unsloth_does_not_serve_by_vllm_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded_through(monkeypatch, has_engine=False)
    with pytest.raises(RuntimeError, match="started no vLLM"):
        load(*loading("vllm"))


def loading(rollout: str) -> tuple[RunConfig, str, str, Any]:
    """What `load` is given."""
    raw = {
        "rollout": rollout,
        "lora": {"r": 32},
        "data": {"max_prompt_tokens": 512},
        "grpo": {"max_completion_length": 256},
    }
    arguments = SimpleNamespace(
        gradient_checkpointing=True, vllm_mode="colocate", vllm_gpu_memory_utilization=0.4
    )
    return check_config(raw, "here"), "a-model", "bfloat16", arguments


def loaded_through(monkeypatch: pytest.MonkeyPatch, *, has_engine: bool) -> Recorder:
    recorder, module = Recorder(has_engine=has_engine), ModuleType("unsloth")
    module.FastModel = recorder  # type: ignore[attr-defined]  # the one name that is used
    monkeypatch.setitem(sys.modules, "unsloth", module)
    return recorder
