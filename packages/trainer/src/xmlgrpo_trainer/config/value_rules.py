"""Values of `grpo:` and `lora:` that trl and peft take in silence, or notice in the first step.

What a library refuses by itself is not repeated here: `rehearsal.py` lets it say so.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What a value has to be.

    Attributes:
        holds: whether a value of the right type is right.
        expected: the same in words, after "expected".
    """

    holds: Callable[[Any], bool]
    expected: str


def one_of(*names: str) -> Rule:
    """One of these names."""
    return Rule(lambda value: value in names, "one of " + ", ".join(names))


AT_LEAST_0 = Rule(lambda value: value >= 0, "0 or more")
AT_LEAST_1 = Rule(lambda value: value >= 1, "1 or more")
ABOVE_0 = Rule(lambda value: value > 0, "a number above 0")
SHARE = Rule(lambda value: 0 <= value <= 1, "a number from 0 to 1")
SHARE_BELOW_1 = Rule(lambda value: 0 <= value < 1, "a number from 0 to below 1")
SHARE_ABOVE_0 = Rule(lambda value: 0 < value <= 1, "a number above 0 and at most 1")

GRPO_RULES = {
    "max_steps": Rule(lambda value: value >= 1 or value == -1, "1 or more, or -1 for whole epochs"),
    "num_train_epochs": ABOVE_0,
    "max_completion_length": AT_LEAST_1,
    "num_iterations": AT_LEAST_1,
    "save_steps": AT_LEAST_1,
    "logging_steps": ABOVE_0,
    "weight_decay": AT_LEAST_0,
    "max_grad_norm": AT_LEAST_0,
    "label_smoothing_factor": SHARE_BELOW_1,
    "neftune_noise_alpha": AT_LEAST_0,
    "beta": AT_LEAST_0,
    "epsilon": AT_LEAST_0,
    "epsilon_high": AT_LEAST_0,
    "delta": ABOVE_0,
    "sapo_temperature_neg": ABOVE_0,
    "sapo_temperature_pos": ABOVE_0,
    "top_entropy_quantile": SHARE,
    "off_policy_mask_threshold": ABOVE_0,
    "pad_to_multiple_of": AT_LEAST_1,
    "dataloader_num_workers": AT_LEAST_0,
    "ddp_timeout": AT_LEAST_1,
    "vllm_gpu_memory_utilization": SHARE_ABOVE_0,
    "vllm_importance_sampling_clip_max": ABOVE_0,
    "vllm_importance_sampling_clip_min": AT_LEAST_0,
    "vllm_importance_sampling_cap": ABOVE_0,
    # texts to trl's dataclass; the trainer compares them only when it computes a loss
    "loss_type": one_of("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"),
    "importance_sampling_level": one_of("token", "sequence"),
    "scale_rewards": one_of("group", "batch", "none"),
    "multi_objective_aggregation": one_of("sum_then_normalize", "normalize_then_sum"),
    "vllm_importance_sampling_mode": one_of(
        "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"
    ),
    "vllm_mode": one_of("server", "colocate"),
}
LORA_RULES = {
    "r": AT_LEAST_1,  # peft would say so too; `xmlgrpo-plan` counts with it and has no peft
    "lora_alpha": ABOVE_0,
    "lora_dropout": SHARE_BELOW_1,
}
