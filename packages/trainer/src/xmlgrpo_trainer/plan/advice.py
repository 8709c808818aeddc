"""What to change when a run does not fit: overrides whose estimate does fit, and no others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from xmlgrpo_trainer.config.defaults import grpo_fields
from xmlgrpo_trainer.config.run_config import RunConfig, check_config
from xmlgrpo_trainer.plan.gpus import TABLE, Gpu
from xmlgrpo_trainer.plan.memory import Peak

LEAST_COMPLETION = 256  # shorter ones cut the working off, and a cut reply earns nothing
SHOWN = 3

PeakOf = Callable[[RunConfig], Peak]


@dataclass(frozen=True, slots=True)
class Change:
    """Overrides that make a run fit.

    Attributes:
        overrides: for the command line, as `key=value`.
        peak: the estimate with them.
        cost: what is given up, in words.
    """

    overrides: tuple[str, ...]
    peak: Peak
    cost: str


def changes_that_fit(config: RunConfig, peak_of: PeakOf, room_gib: float) -> list[Change]:
    """The least changes, one knob each; where no single one suffices, the knobs in turn.

    Args:
        config: the run that does not fit.
        peak_of: estimates a configuration.
        room_gib: memory of the GPU.
    """
    found: list[Change] = []
    for knob in KNOBS:
        for values, cost in knob(config):
            peak = peak_of(changed(config, values))
            if peak.total <= room_gib:
                found.append(Change(_words(values), peak, cost))
                break
    if found:
        return found[:SHOWN]
    together: dict[str, Any] = {}
    costs: list[str] = []
    for knob in KNOBS:
        options = list(knob(changed(config, together)))
        for values, cost in options:
            tried = {**together, **values}
            peak = peak_of(changed(config, tried))
            if peak.total <= room_gib:
                return [Change(_words(tried), peak, "; ".join(dict.fromkeys([*costs, cost])))]
        if options:
            together |= options[-1][0]
            costs.append(options[-1][1])
    return []


def gpus_that_fit(peak_on: Callable[[Gpu], Peak]) -> list[Gpu]:
    """The GPUs of the table on which the run fits as it is, the smallest first."""
    return sorted(
        (gpu for gpu in TABLE if peak_on(gpu).total <= gpu.memory_gib),
        key=lambda gpu: gpu.memory_gib,
    )


def changed(config: RunConfig, values: dict[str, Any]) -> RunConfig:
    """A copy of the configuration with dotted keys set."""
    raw = config.model_dump()
    for key, value in values.items():
        *parents, last = key.split(".")
        place = raw
        for parent in parents:
            place = place[parent]
        place[last] = value
    return check_config(raw, "the changed configuration")


def _smaller_micro_batch(config: RunConfig) -> Iterator[tuple[dict[str, Any], str]]:
    micro = grpo_fields(config)["per_device_train_batch_size"]
    accumulate = config.grpo.get("gradient_accumulation_steps", 1)
    while micro > 1 and micro % 2 == 0:
        micro, accumulate = micro // 2, accumulate * 2
        yield (
            {
                "grpo.per_device_train_batch_size": micro,
                "grpo.gradient_accumulation_steps": accumulate,
            },
            "the same batch in smaller pieces: slower, the same learning",
        )


def _fewer_held_out_rows(config: RunConfig) -> Iterator[tuple[dict[str, Any], str]]:
    rows = config.holdout.batch_size
    while rows > 4:
        rows //= 2
        yield {"holdout.batch_size": rows}, "held-out problems take longer, results are the same"


def _chunked_logits(config: RunConfig) -> Iterator[tuple[dict[str, Any], str]]:
    if not config.grpo.get("use_liger_kernel", False):
        yield (
            {"grpo.use_liger_kernel": True},
            "logits in chunks: needs .venv/bin/pip install liger-kernel",
        )


def _checkpointing(config: RunConfig) -> Iterator[tuple[dict[str, Any], str]]:
    if config.grpo.get("gradient_checkpointing") is False:
        yield {"grpo.gradient_checkpointing": True}, "activations are computed twice: slower"


def _four_bit(config: RunConfig) -> Iterator[tuple[dict[str, Any], str]]:
    if not config.model.load_in_4bit and config.rollout != "graph":
        yield (
            {"model.load_in_4bit": True},
            "the frozen weights in 4 bits: needs bitsandbytes, slower, slightly less exact",
        )


def _fewer_completions(config: RunConfig) -> Iterator[tuple[dict[str, Any], str]]:
    fields = grpo_fields(config)
    accumulate = fields.get("gradient_accumulation_steps", 1)
    group, micro = fields["num_generations"], fields["per_device_train_batch_size"]
    while accumulate % 2 == 0 and micro * accumulate // 2 % group == 0:
        accumulate //= 2
        rows = min(config.holdout.batch_size, micro * accumulate)
        yield (
            {"grpo.gradient_accumulation_steps": accumulate, "holdout.batch_size": rows},
            "fewer problems a step: noisier steps",
        )


def _shorter_replies(config: RunConfig) -> Iterator[tuple[dict[str, Any], str]]:
    tokens = grpo_fields(config)["max_completion_length"]
    while tokens // 2 >= LEAST_COMPLETION:
        tokens //= 2
        yield (
            {"grpo.max_completion_length": tokens},
            "longer replies are cut off and earn little",
        )


KNOBS = (
    _checkpointing,
    _smaller_micro_batch,
    _fewer_held_out_rows,
    _chunked_logits,
    _four_bit,
    _fewer_completions,
    _shorter_replies,
)


def _words(values: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in values.items()
    )
