"""What can be refused from the configuration alone, before a library is imported."""

import dataclasses
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import get_task
from xmlgrpo_rewards.total import check_reward_names
from xmlgrpo_run.checkout import is_installed
from xmlgrpo_trainer.config.batch import check_groups, shared
from xmlgrpo_trainer.config.library_fields import (
    READ_WITH,
    RESERVED_GRPO,
    Rule,
    check_grpo,
    check_lora,
    tiny_settings,
)
from xmlgrpo_trainer.config.recorded_fields import library_schema
from xmlgrpo_trainer.config.run_config import RunConfig, grpo_fields

# initialisations that change the frozen weights (peft's documentation of `init_lora_weights`)
FROM_FROZEN = ("pissa", "olora", "corda", "loftq", "lora_ga")


def check_early(config: RunConfig, processes: int) -> None:
    """Check the pass-through sections, and whether `processes` can share this run.

    Raises:
        UserError: no such task or reward, no such field of `grpo:`, `lora:` or `model.tiny:`, the
            batch does not hold whole groups or equal shares, the adapter is known to begin
            elsewhere than at the base, or several processes were asked of Unsloth.
    """
    check_reward_names(config.rewards, get_task(config.task))
    tiny_settings(config.model.tiny)
    check_grpo(_fields_of_trl(config))
    check_lora(config.lora)
    check_read(config)
    check_groups(config.grpo)
    check_beginning(config)
    if processes > 1 and config.model.backend == "unsloth":
        raise UserError(
            f"model.backend is 'unsloth', which trains on one GPU, but {processes} processes were "
            "asked for; set model.backend=plain, or leave GPUS out"
        )
    if processes > 1 and config.sampling.is_used:
        raise UserError(
            f"sampling: expected one process, got {processes}; leave GPUS out, or sampling.band "
            "and sampling.draw"
        )
    shared(grpo_fields(config), processes)


def check_read(config: RunConfig) -> None:
    """Refuse what would be taken and never looked at, because another setting is not as it needs.

    Raises:
        UserError: there is such a setting, or two that the loss cannot have together.
    """
    may_have_gpu = config.model.device != "cpu"  # what is on there, unless the file says otherwise
    value: dict[str, Any] = {"rollout": config.rollout, "packed_rows": config.packed_rows}
    written = {"grpo": config.grpo, "lora": config.lora}
    for section, schema in (("grpo", "GRPOConfig"), ("lora", "LoraConfig")):
        fields = dataclasses.fields(library_schema(schema))
        defaults = {field.name: field.default for field in fields}
        given = {**defaults, **written[section]}
        value |= {f"{section}.{name}": given[name] for name in given}
        for name in ("gradient_checkpointing", "use_liger_kernel"):
            value[f"grpo.{name}"] = config.grpo.get(name, may_have_gpu)
        for name, (other, rule) in READ_WITH[section].items():
            if written[section].get(name) not in (None, {}, defaults[name]):
                _check_other(f"{section}.{name}", other, rule, value[other])
    lowest, highest = value["grpo.entropy_coef_min"], value["grpo.entropy_coef_max"]
    if lowest > highest:
        raise UserError(
            f"grpo.entropy_coef_min: expected at most entropy_coef_max, {highest}, got {lowest}"
        )
    mode = value["grpo.vllm_importance_sampling_mode"]
    if (
        value["grpo.loss_type"] == "vespo"
        and value["grpo.vllm_importance_sampling_correction"]
        and not mode.startswith("token")
    ):
        raise UserError(
            "grpo.loss_type: vespo needs grpo.vllm_importance_sampling_mode: token_truncate or "
            f"token_mask, got {mode}"
        )


def _check_other(name: str, other: str, rule: Rule, value: Any) -> None:
    if not rule.holds(value):
        raise UserError(
            f"{name} is read only where {other} is {rule.expected}, and that is {value!r}; leave "
            f"{name} out, or set {other}"
        )


def check_beginning(config: RunConfig) -> None:
    """Refuse an adapter that is known to change the model, or the reference, before the first step.

    What is not known here is seen on the model itself (`model.reference.check_start`).

    Raises:
        UserError: what is measured as "before" would not be the base, or the KL term's reference
            would not.
    """
    start, beta = config.lora.get("init_lora_weights", True), grpo_fields(config).get("beta") or 0
    if start is False:
        raise UserError(
            "lora.init_lora_weights is false, so the adapter would change the model before the "
            "first step, and what is measured as 'before' would not be the base; leave it out"
        )
    if beta > 0 and str(start).lower().startswith(FROM_FROZEN):
        raise UserError(
            f"grpo.beta is {beta:g}, but lora.init_lora_weights={start} moves a part of the frozen "
            "weights into the adapter, so that the KL term's reference, the model without its "
            "adapter, would not be the base; set grpo.beta=0, or leave it out"
        )


def _fields_of_trl(config: RunConfig) -> dict[str, Any]:
    """The fields of `grpo:` that can be checked here.

    Unsloth's GRPOConfig has some of its own.  Where it may be taken, a name that trl does not know
    is left to the library (`prepare.check_settings`).
    """
    if config.model.backend == "plain" or not is_installed("unsloth"):
        return config.grpo
    known = {field.name for field in dataclasses.fields(library_schema("GRPOConfig"))}
    return {
        name: value for name, value in config.grpo.items() if name in known | RESERVED_GRPO.keys()
    }
