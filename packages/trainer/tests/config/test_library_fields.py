"""Pass-through sections are checked against the libraries' own dataclasses."""

import dataclasses
from typing import Any

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.batch import check_groups
from xmlgrpo_trainer.config.library_fields import (
    RESERVED_GRPO,
    RESERVED_LORA,
    check_grpo,
    check_lora,
)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"learning_rate": 1e-5, "max_steps": 3}, id="numbers"),
        pytest.param({"learning_rate": 1}, id="a-whole-number-is-a-float"),
        pytest.param({"lr_scheduler_type": "cosine", "optim": "adamw_torch"}, id="enums-as-text"),
        pytest.param({"gradient_checkpointing_kwargs": {"use_reentrant": False}}, id="mapping"),
        pytest.param({"top_k": 0, "min_p": None}, id="null-where-allowed"),
    ],
)
def test_fields_of_grpo_config_pass(values: dict[str, Any]) -> None:
    check_grpo(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param({"learning_rat": 1}, "did you mean 'learning_rate'", id="typo"),
        pytest.param({"xyzzy": 1}, "grpo.xyzzy is not a field of GRPOConfig", id="unknown"),
        pytest.param({"max_steps": "3"}, "max_steps: .*valid integer, got '3'", id="text"),
        pytest.param({"max_steps": 3.5}, "max_steps: .*got 3.5", id="fraction"),
        pytest.param({"max_steps": True}, "max_steps: .*got True", id="boolean"),
        pytest.param({"max_steps": None}, "max_steps: .*got None", id="null"),
        pytest.param({"max_steps": {1, 2}}, "expected a number, text", id="a-set"),
        pytest.param({"learning_rate": [1e-5]}, "learning_rate: .*valid number", id="list"),
    ],
)
def test_what_is_no_field_or_no_such_type_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_grpo(values)


def test_every_problem_is_in_one_message() -> None:
    with pytest.raises(UserError) as caught:
        check_grpo({"max_steps": "3", "beta": "x", "output_dir": "here"})
    for name in ("max_steps", "beta", "output_dir"):
        assert name in str(caught.value)


@pytest.mark.parametrize("name", RESERVED_GRPO)
def test_what_a_run_decides_elsewhere_says_where(name: str) -> None:
    with pytest.raises(UserError) as caught:
        check_grpo({name: 1})
    assert f"grpo.{name} cannot be set here: {RESERVED_GRPO[name]}" in str(caught.value)


def test_reserved_names_are_fields_or_were_once() -> None:
    from peft import LoraConfig
    from trl import GRPOConfig

    # not in this trl, but older recipes or newer libraries have it: the message says where it is
    gone = {"max_prompt_length", "trust_remote_code", "resume_from_checkpoint"}
    gone |= {"activation_checkpointing", "activation_checkpointing_kwargs"}
    grpo = {field.name for field in dataclasses.fields(GRPOConfig)}
    lora = {field.name for field in dataclasses.fields(LoraConfig)}
    assert RESERVED_GRPO.keys() - gone <= grpo
    assert RESERVED_LORA.keys() <= lora


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"r": 8, "lora_alpha": 16, "lora_dropout": 0.05}, id="numbers"),
        pytest.param({"target_modules": "all-linear"}, id="all-linear"),
        pytest.param({"target_modules": ["q_proj"]}, id="a-list-fills-a-set"),
        pytest.param({"target_modules": r".*\.(q|k)_proj"}, id="a-pattern-of-projections"),
        pytest.param({"use_rslora": True, "init_lora_weights": "pissa"}, id="others"),
    ],
)
def test_fields_of_lora_config_pass(values: dict[str, Any]) -> None:
    check_lora(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param({"rank": 8}, "is not a field of LoraConfig", id="rank-is-r"),
        pytest.param({"r": "8"}, "lora.r: .*got '8'", id="text"),
        pytest.param({"task_type": "CAUSAL_LM"}, "always CAUSAL_LM", id="reserved"),
        pytest.param({"modules_to_save": ["lm_head"]}, "leave it out", id="full-copies"),
        pytest.param({"target_modules": ["q_proj", "lm_head"]}, "tied weights", id="head"),
        pytest.param({"target_modules": ["embed_tokens"]}, "tied weights", id="embedding"),
        pytest.param({"target_modules": "model.embed_tokens"}, "tied weights", id="one-name"),
        pytest.param({"target_modules": ".*(q_proj|lm_head)$"}, "tied weights", id="a-pattern"),
        pytest.param({"target_modules": ".*(q_proj"}, "no regular expression", id="torn-pattern"),
    ],
)
def test_bad_lora_fields_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_lora(values)


@pytest.mark.parametrize(
    "grpo",
    [
        pytest.param({}, id="defaults"),
        pytest.param(
            {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}, id="accumulate"
        ),
        pytest.param(
            {"per_device_train_batch_size": 2, "steps_per_generation": 8}, id="generation"
        ),
        pytest.param({"generation_batch_size": 24}, id="given-size"),
    ],
)
def test_whole_groups_pass(grpo: dict[str, Any]) -> None:
    check_groups(grpo)


@pytest.mark.parametrize(
    ("grpo", "words"),
    [
        pytest.param({"per_device_train_batch_size": 6}, "multiple of 8", id="six-of-eight"),
        pytest.param({"num_generations": 6}, "num_generations = 6", id="eight-of-six"),
        pytest.param({"generation_batch_size": 20}, "batch of 20", id="given-size"),
        pytest.param({"num_generations": 1}, "at least 2", id="a-group-of-one"),
        pytest.param({"num_generations": 0}, "num_generations: expected 1", id="zero"),
        pytest.param({"num_generations": "8"}, "a whole number, got '8'", id="a-text"),
        pytest.param(
            {"per_device_train_batch_size": -8}, "batch_size: expected 1 or more", id="negative"
        ),
    ],
)
def test_torn_groups_are_refused_with_the_sums(grpo: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_groups(grpo)
