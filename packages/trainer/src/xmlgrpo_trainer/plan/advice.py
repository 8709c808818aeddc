"""What to change when a run does not fit: overrides whose estimate does fit, and no others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from xmlgrpo_trainer.config.run_config import (
    RunConfig,
    apply_override,
    check_config,
    completion_limit,
    grpo_fields,
)

LEAST_COMPLETION = 256  # shorter ones end a reply before its answer, and that earns nothing
SHOWN = 3

Values = dict[str, Any]  # dotted key -> value


@dataclass(frozen=True, slots=True)
class Change:
    """Overrides that make a run fit."""

    overrides: tuple[str, ...]  # for the command line, as `key=value`
    peak_gib: float  # the estimate with them
    cost: str  # what is given up, in words


def changes_that_fit(
    config: RunConfig, peak_gib: Callable[[RunConfig], float], room_gib: float
) -> list[Change]:
    """The least changes, one knob each; where no single one suffices, the knobs in turn."""

    def tried(values: Values, cost: str) -> Change | None:
        peak = peak_gib(changed(config, values))
        return Change(_words(values), peak, cost) if peak <= room_gib else None

    single = [
        next(filter(None, (tried(values, cost) for values, cost in knob(config))), None)
        for knob in KNOBS
    ]
    if any(single):
        return [change for change in single if change][:SHOWN]
    together: Values = {}
    costs: list[str] = []
    for knob in KNOBS:
        values: Values = {}
        for values, cost in knob(changed(config, together)):
            both = "; ".join(dict.fromkeys([*costs, cost]))
            if change := tried(together | values, both):
                return [change]
        if values:
            together, costs = together | values, [*costs, cost]
    return []


def changed(config: RunConfig, values: Values) -> RunConfig:
    """A copy of the configuration with dotted keys set."""
    raw = config.model_dump()
    for override in _words(values):
        apply_override(raw, override)
    return check_config(raw, "the changed configuration")


# a knob: a run's configuration -> changes of it, the least first, with what each costs
Knob = Callable[[RunConfig], Iterator[tuple[Values, str]]]


def _smaller_micro_batch(config: RunConfig) -> Iterator[tuple[Values, str]]:
    fields = grpo_fields(config)
    micro = fields["per_device_train_batch_size"]
    accumulate = fields.get("gradient_accumulation_steps", 1)
    while micro > 1 and micro % 2 == 0:
        micro, accumulate = micro // 2, accumulate * 2
        values = {
            "grpo.per_device_train_batch_size": micro,
            "grpo.gradient_accumulation_steps": accumulate,
        }
        yield values, "the same batch in smaller pieces: slower, the same learning"


def _fewer_held_out_rows(config: RunConfig) -> Iterator[tuple[Values, str]]:
    rows = config.holdout.batch_size
    while rows > 4:
        rows //= 2
        yield {"holdout.batch_size": rows}, "held-out problems take longer, results are the same"


def _chunked_logits(config: RunConfig) -> Iterator[tuple[Values, str]]:
    # packed rows have chunks of their own
    if not (config.grpo.get("use_liger_kernel", False) or config.packed_rows):
        cost = "logits in chunks: needs .venv/bin/pip install liger-kernel"
        yield {"grpo.use_liger_kernel": True}, cost


def _checkpointing(config: RunConfig) -> Iterator[tuple[Values, str]]:
    if config.grpo.get("gradient_checkpointing") is False:
        yield {"grpo.gradient_checkpointing": True}, "activations are computed twice: slower"


def _four_bit(config: RunConfig) -> Iterator[tuple[Values, str]]:
    model = config.model
    wants_graph = config.rollout == "graph" or config.rollout_weights
    if not (model.load_in_4bit or model.float16_products or wants_graph):
        cost = "the frozen weights in 4 bits: needs bitsandbytes, slower, slightly less exact"
        yield {"model.load_in_4bit": True}, cost


def _fewer_completions(config: RunConfig) -> Iterator[tuple[Values, str]]:
    fields = grpo_fields(config)
    accumulate = fields.get("gradient_accumulation_steps", 1)
    group, micro = fields["num_generations"], fields["per_device_train_batch_size"]
    while accumulate % 2 == 0 and micro * accumulate // 2 % group == 0:
        accumulate //= 2
        rows = min(config.holdout.batch_size, micro * accumulate)
        values = {"grpo.gradient_accumulation_steps": accumulate, "holdout.batch_size": rows}
        yield values, "fewer problems per step: noisier steps"


def _shorter_replies(config: RunConfig) -> Iterator[tuple[Values, str]]:
    tokens = completion_limit(config)
    while tokens // 2 >= LEAST_COMPLETION:
        tokens //= 2
        yield {"grpo.max_completion_length": tokens}, "longer replies are cut off and earn little"


KNOBS: tuple[Knob, ...] = (
    _checkpointing,
    _smaller_micro_batch,
    _fewer_held_out_rows,
    _chunked_logits,
    _four_bit,
    _fewer_completions,
    _shorter_replies,
)


def _words(values: Values) -> tuple[str, ...]:
    return tuple(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in values.items()
    )
