"""What the sections `grpo:` and `lora:` mean where they are silent; needs no library."""

from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.run_config import RunConfig

# Ours where they differ from trl's: a line per step, two checkpoints, and LoRA's usual rate; and
# trl's own where something is computed from them before trl is imported.
GRPO_DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-5,
    "logging_steps": 1,
    "save_steps": 20,
    "save_total_limit": 2,
    "max_completion_length": 512,
    "num_generations": 8,
    "per_device_train_batch_size": 8,
}
# the same for both backends: which one `auto` takes must not decide the adapter
LORA_DEFAULTS: dict[str, Any] = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "target_modules": [
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    ],
}


def grpo_fields(config: RunConfig) -> dict[str, Any]:
    """The `grpo:` section over our defaults; what is in neither is trl's default."""
    # a limit that is null is none that was set: trl would draw completions without end
    return {**GRPO_DEFAULTS, **config.grpo, "max_completion_length": completion_limit(config)}


def completion_limit(config: RunConfig) -> int:
    """The longest completion in tokens."""
    limit = config.grpo.get("max_completion_length")
    return int(limit or GRPO_DEFAULTS["max_completion_length"])


def holdout_limit(config: RunConfig) -> int:
    """The longest reply to a held-out problem, here and in every later evaluation of the run."""
    return config.holdout.max_new_tokens or completion_limit(config)


def reply_limit(config: RunConfig) -> int:
    """The longest reply in tokens, in training or to a held-out problem."""
    return max(completion_limit(config), config.holdout.max_new_tokens or 0)


def check_context(config: RunConfig, context: int | None) -> None:
    """Check that the longest prompt and reply fit into the model's context, in tokens, if known.

    Raises:
        UserError: they do not.
    """
    prompt, reply = config.data.max_prompt_tokens, reply_limit(config)
    if context is not None and prompt + reply > context:
        raise UserError(
            f"a prompt of {prompt} tokens (data.max_prompt_tokens) and a reply of {reply} (the "
            "longer of grpo.max_completion_length and holdout.max_new_tokens) do not fit into the "
            f"model's context of {context}; lower one of them"
        )
