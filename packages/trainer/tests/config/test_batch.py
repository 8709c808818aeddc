"""A configuration's batch, shared by several processes."""

from dataclasses import fields as dataclass_fields
from typing import Any

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config import early_check
from xmlgrpo_trainer.config.batch import shared, whole
from xmlgrpo_trainer.config.defaults import GRPO_DEFAULTS
from xmlgrpo_trainer.config.recorded_fields import library_schema
from xmlgrpo_trainer.config.run_config import check_config


@pytest.mark.parametrize(
    ("micro", "accumulated", "processes", "expected"),
    [
        pytest.param(4, 16, 1, (4, 16), id="one-process"),
        pytest.param(4, 16, 2, (4, 8), id="accumulation-first"),
        pytest.param(4, 16, 16, (4, 1), id="accumulation-used-up"),
        pytest.param(4, 16, 64, (1, 1), id="one-completion-each"),
        pytest.param(64, 1, 2, (32, 1), id="no-accumulation"),
        pytest.param(6, 2, 4, (3, 1), id="both"),
        pytest.param(8, 3, 6, (4, 1), id="common-divisor-only"),
    ],
)
def test_the_processes_make_the_same_batch_together(
    micro: int, accumulated: int, processes: int, expected: tuple[int, int]
) -> None:
    fields = {
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulated,
        "learning_rate": 1e-5,
    }
    own = shared(fields, processes)
    found = own["per_device_train_batch_size"], own["gradient_accumulation_steps"]
    assert found == expected
    assert found[0] * found[1] * processes == micro * accumulated
    assert own["learning_rate"] == 1e-5


def test_a_generation_batch_of_several_steps_stays_as_large() -> None:
    fields: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "steps_per_generation": 8,
    }
    own = shared(fields, 2)
    assert own["steps_per_generation"] == 4
    assert own["per_device_train_batch_size"] * own["steps_per_generation"] * 2 == 4 * 8


@pytest.mark.parametrize(("micro", "accumulated"), [(4, 16), (64, 1), (6, 2)])
def test_what_each_process_had_can_be_written_as_one_batch(micro: int, accumulated: int) -> None:
    fields = {
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulated,
        "steps_per_generation": accumulated * 4,
    }
    own = shared(fields, 2)
    written = whole(own, 2)
    assert shared(written, 2) == own
    for rounds in ("gradient_accumulation_steps", "steps_per_generation"):
        batch = micro * fields[rounds]
        assert written["per_device_train_batch_size"] * written[rounds] == batch


@pytest.mark.parametrize(
    ("changes", "processes", "words"),
    [
        pytest.param({}, 3, "a step of 16 completions", id="batch"),
        pytest.param(
            {"gradient_accumulation_steps": 4, "steps_per_generation": 6},
            4,
            "steps_per_generation 6",
            id="steps-per-generation",
        ),
        pytest.param(
            {"gradient_accumulation_steps": 2, "generation_batch_size": 48},
            2,
            "generation_batch_size 48",
            id="generation-batch",
        ),
    ],
)
def test_what_cannot_be_shared_equally_is_refused(
    changes: dict[str, Any], processes: int, words: str
) -> None:
    with pytest.raises(UserError, match=f"{words}.* cannot be shared equally by {processes}"):
        shared({"per_device_train_batch_size": 16, **changes}, processes)


@pytest.mark.parametrize(
    ("backend", "installed", "words"),
    [
        pytest.param("auto", False, "unsloth_num_chunks is not a field", id="not-installed"),
        pytest.param("plain", True, "unsloth_num_chunks is not a field", id="plain"),
        pytest.param("auto", True, None, id="may-be-unsloths"),
    ],
)
def test_a_field_of_unsloths_own_is_left_to_unsloth(
    monkeypatch: pytest.MonkeyPatch, backend: str, *, installed: bool, words: str | None
) -> None:
    monkeypatch.setattr(early_check, "is_installed", lambda _name: installed)
    raw = {"model": {"backend": backend}, "grpo": {"unsloth_num_chunks": 2}}
    config = check_config(raw, "test")
    if words is None:
        early_check.check_early(config, 1)
        return
    with pytest.raises(UserError, match=words):
        early_check.check_early(config, 1)


@pytest.mark.parametrize(
    "name", ["num_generations", "per_device_train_batch_size", "max_completion_length"]
)
def test_what_is_counted_with_before_trl_is_imported_is_trls_own_default(name: str) -> None:
    [field] = [f for f in dataclass_fields(library_schema("GRPOConfig")) if f.name == name]
    assert GRPO_DEFAULTS[name] == field.default
