"""The GRPO step: trl's trainer, our rollouts and rewards in it."""
