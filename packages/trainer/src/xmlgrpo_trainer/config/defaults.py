"""What the sections `grpo:` and `lora:` mean where they are silent; needs no library."""

from typing import Any

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
