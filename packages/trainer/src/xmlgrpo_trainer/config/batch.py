"""One batch for any number of processes: a configuration means the same experiment on 1 or N GPUs.

trl counts `per_device_train_batch_size` and the two numbers of micro-batches for each process, so
that more GPUs would mean a larger batch and another learning curve.  Here the configuration names
the whole batch and the processes share it.
"""

from collections.abc import Mapping
from math import gcd
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.defaults import GRPO_DEFAULTS

COUNTS = (
    "num_generations",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "steps_per_generation",
    "generation_batch_size",
)

MOST_COMPLETIONS = 1_000_000  # of a batch, which is kept in memory
BUSY_TOKENS = 16_384  # of one pass, padding included: enough to keep a GPU busy


def check_groups(grpo: Mapping[str, Any]) -> None:
    """Check that a generation batch holds whole groups of `num_generations` completions.

    Raises:
        UserError: a size is no whole number above 0, or the batch is not divisible by the group
            size.
    """
    for name in COUNTS:
        value = grpo.get(name)
        if value is None and not (name == "num_generations" and name in grpo):
            continue
        if type(value) is not int:
            raise UserError(f"grpo.{name}: expected a whole number, got {value!r}")
        if not 1 <= value <= MOST_COMPLETIONS:
            expected = "1 or more" if value < 1 else f"at most {MOST_COMPLETIONS:,}"
            raise UserError(f"grpo.{name}: expected {expected}, got {value}")
    count: dict[str, Any] = {name: grpo.get(name) or GRPO_DEFAULTS.get(name) for name in COUNTS}
    group, micro = count["num_generations"], count["per_device_train_batch_size"]
    steps = count["steps_per_generation"] or count["gradient_accumulation_steps"] or 1
    batch = count["generation_batch_size"] or micro * steps
    if group < 2:
        raise UserError(
            f"grpo.num_generations: expected at least 2 completions per prompt, got {group}; the "
            "advantage compares a completion with the others of its group"
        )
    if batch % group:
        raise UserError(
            f"grpo: a generation batch of {batch} completions ({micro} a device x {steps} "
            f"accumulation steps) is not a multiple of num_generations = {group}; set "
            f"per_device_train_batch_size to a multiple of {group} (for example "
            f"{max(group, micro // group * group)}) or change num_generations"
        )


def shared(fields: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """The fields of `trl.GRPOConfig` for each of `processes`, which make the same batch together.

    Gradient accumulation is divided first: it costs time and no memory.  What is left divides the
    micro-batch, so that no GPU ever needs more memory than the one GPU did.

    Args:
        fields: `grpo:` over the defaults; `per_device_train_batch_size` is among them.

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


def rows_together(length: int, micro_batch: int) -> int:
    """Texts of `length` tokens per pass without gradient: those of a backward pass, or more."""
    return max(micro_batch, BUSY_TOKENS // length, 1)


def _unequal(processes: int, what: str) -> UserError:
    return UserError(
        f"grpo: {what} cannot be shared equally by {processes} processes; the configuration names "
        "the whole batch, whatever the number of GPUs. Change these numbers or GPUS"
    )
