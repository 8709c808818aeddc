"""One batch for any number of processes: a configuration means the same experiment on 1 or N GPUs.

trl counts `per_device_train_batch_size` and the two numbers of micro-batches for each process, so
that more GPUs would mean a larger batch and another learning curve.  Here the configuration names
the whole batch and the processes share it.
"""

import dataclasses
from collections.abc import Mapping
from importlib.util import find_spec
from math import gcd
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import get_task
from xmlgrpo_trainer.config.defaults import check_context, grpo_fields
from xmlgrpo_trainer.config.library_fields import (
    RESERVED_GRPO,
    check_groups,
    check_grpo,
    check_lora,
)
from xmlgrpo_trainer.config.recorded_fields import library_schema
from xmlgrpo_trainer.config.run_config import RunConfig
from xmlgrpo_trainer.plan.shapes import find_shape


def check_alone(config: RunConfig, processes: int) -> None:
    """Check what needs no library, no folder and no machine: can `processes` share this run?

    Raises:
        UserError: no such task, no such field of `grpo:` or `lora:`, texts that do not fit into a
            model whose shape is known here, the batch does not hold whole groups or equal shares,
            or Unsloth was asked for.
    """
    get_task(config.task)
    check_grpo(_of_trl(config))
    check_lora(config.lora)
    check_groups(config.grpo)
    context = _known_context(config)
    if context is not None:
        check_context(config, context)
    if processes == 1:
        return
    if config.model.backend == "unsloth":
        raise UserError(
            f"model.backend is 'unsloth', which trains on one GPU, but {processes} processes were "
            "asked for; set model.backend=plain, or leave GPUS out"
        )
    shared(grpo_fields(config), processes)


def _known_context(config: RunConfig) -> int | None:
    try:
        return find_shape(config.model).context
    except UserError:
        return None  # loading the model says what is wrong with it, if anything is


def _of_trl(config: RunConfig) -> dict[str, Any]:
    """The fields of `grpo:` that can be checked here.

    Unsloth's GRPOConfig has some of its own.  Where it may be taken, a name that trl does not know
    is left to the library (`prepare.check_settings`).
    """
    if config.model.backend == "plain" or find_spec("unsloth") is None:
        return config.grpo
    known = {
        field.name for field in dataclasses.fields(library_schema("GRPOConfig"))
    } | RESERVED_GRPO.keys()
    return {name: value for name, value in config.grpo.items() if name in known}


def shared(fields: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """The fields of `trl.GRPOConfig` for each of `processes`, which make the same batch together.

    Gradient accumulation is divided first: it costs time and no memory.  What is left divides the
    micro-batch, so that no GPU ever needs more memory than the one GPU did.

    Args:
        fields: `grpo:` over the defaults; `per_device_train_batch_size` is among them.
        processes: how many share the batch.

    Raises:
        UserError: the batch cannot be shared equally.
    """
    if processes == 1:
        return dict(fields)
    micro = fields["per_device_train_batch_size"]
    accumulated = fields.get("gradient_accumulation_steps") or 1
    rounds = gcd(accumulated, processes)
    slices = processes // rounds
    if micro % slices:
        raise _unequal(
            processes,
            f"a step of {micro * accumulated} completions (per_device_train_batch_size {micro} x "
            f"gradient_accumulation_steps {accumulated})",
        )
    own = {
        **fields,
        "per_device_train_batch_size": micro // slices,
        "gradient_accumulation_steps": accumulated // rounds,
    }
    steps, generated = fields.get("steps_per_generation"), fields.get("generation_batch_size")
    if steps is not None:
        if steps % rounds:
            raise _unequal(processes, f"steps_per_generation {steps}")
        own["steps_per_generation"] = steps // rounds
    if generated is not None and generated % (micro * rounds):
        raise _unequal(processes, f"generation_batch_size {generated}")
    return own


def whole(fields: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """Fields for one process that make the batch of `processes` with `fields` each.

    `shared` gives the same ones back, with no more completions in a backward pass.
    """
    counted = ("gradient_accumulation_steps", "steps_per_generation")
    return {**fields, **{name: fields[name] * processes for name in counted}}


def _unequal(processes: int, what: str) -> UserError:
    return UserError(
        f"grpo: {what} cannot be shared equally by {processes} processes; the configuration names "
        "the whole batch, whatever the number of GPUs. Change these numbers or GPUS"
    )
