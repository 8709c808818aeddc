"""The command lines that more than one test gives."""

from .screen import script

# The real recipe, narrower and far too short: it writes the tags now and then.
TINY = (
    *("model.tiny.hidden_size=64", "model.tiny.head_dim=16", "model.tiny.mlp_size=192"),
    *("model.tiny.warm_threads=1", "lora.r=4", "lora.lora_alpha=8"),
    *("data.generated_rows=64", "holdout.report_rows=24", "holdout.validation_rows=16"),
    *("holdout.every=2", "holdout.batch_size=64", "watch.samples_every=2"),
    *("grpo.per_device_train_batch_size=16", "grpo.num_generations=4"),
    *("grpo.max_completion_length=24", "grpo.save_steps=2"),
)


def train(run: str, *, max_steps: int, warm_steps: int = 40) -> list[str]:
    """`make train`, with a model and steps that take seconds."""
    overrides = [*TINY, f"grpo.max_steps={max_steps}", f"model.tiny.warm_steps={warm_steps}"]
    return [script("xmlgrpo-train"), "--config", "configs/tiny.yaml", "--run", run, *overrides]
