"""What the `grpo:` section means where it says nothing; known without importing trl."""

from typing import Any

from xmlgrpo_trainer.config import RunConfig

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
