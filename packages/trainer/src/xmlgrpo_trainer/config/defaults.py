"""What the `grpo:` section means where it says nothing; known without importing trl."""

from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.run_config import RunConfig

# Ours where they differ from trl's: a line a step, two checkpoints, and LoRA's usual rate.
DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-5,
    "logging_steps": 1,
    "save_steps": 20,
    "save_total_limit": 2,
    "max_completion_length": 512,
    "num_generations": 8,
    "per_device_train_batch_size": 8,
}


def grpo_fields(config: RunConfig) -> dict[str, Any]:
    """The `grpo:` section over our defaults; what is in neither is trl's default."""
    return {**DEFAULTS, **config.grpo}


def completion_limit(config: RunConfig) -> int:
    """The longest completion in tokens."""
    return int(grpo_fields(config)["max_completion_length"] or DEFAULTS["max_completion_length"])


def reply_limit(config: RunConfig) -> int:
    """The longest reply in tokens, in training or to a held-out problem."""
    return max(completion_limit(config), config.holdout.max_new_tokens or 0)


def check_context(config: RunConfig, context: int) -> None:
    """Check that the longest prompt and the longest reply fit into the model's context.

    Args:
        config: the run's configuration.
        context: of the model, in tokens.

    Raises:
        UserError: they do not.
    """
    prompt, reply = config.data.max_prompt_tokens, reply_limit(config)
    if prompt + reply > context:
        raise UserError(
            f"a prompt of {prompt} tokens (data.max_prompt_tokens) and a reply of {reply} (the "
            "longer of grpo.max_completion_length and holdout.max_new_tokens) do not fit into the "
            f"model's context of {context}; lower one of them"
        )
