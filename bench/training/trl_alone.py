"""A run's configuration trained by trl and peft alone: what `steps.py` holds our commands against.

    python -m bench.training.trl_alone --config run.yaml --run folder --memory memory.json

The model, problems, rewards and `grpo:` settings are the configuration's, but for Liger's kernels,
which trl leaves off; the trainer is trl's `GRPOTrainer` as it comes, which asks transformers'
`generate`.  Each step goes into the run folder's `metrics.jsonl`, as `xmlgrpo-train` writes it.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from bench.shared.measured_command import note_memory
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.task import get_task
from xmlgrpo_rewards.total import load_rewards
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.metrics import append_row
from xmlgrpo_trainer.config.run_config import RunConfig, grpo_fields, load_config
from xmlgrpo_trainer.grpo.trainer import training_rows
from xmlgrpo_trainer.model.load import lora_fields
from xmlgrpo_trainer.problems.split import drop_long, load_problems


class Log(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Writes each logged step, with the time at which it ended."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Keep a step's numbers."""
        if logs and "grad_norm" in logs:
            finite = {name: value for name, value in logs.items() if math.isfinite(value or 0.0)}
            row = {"step": state.global_step, "time": round(time.time(), 3), **finite}
            append_row(self.run.metrics, row)


def build(config: RunConfig, run: RunFolder) -> GRPOTrainer:
    """Load everything and hand it to trl."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name, task = config.model.name, get_task(config.task)
    tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(
        name,
        dtype=torch.bfloat16 if device == "cuda" else torch.float32,
        use_safetensors=True,
    )
    problems = load_problems(config, task)
    problems = drop_long(problems, task, tokenizer, config.data.max_prompt_tokens)
    rewards = load_rewards(config.rewards, task)
    arguments = GRPOConfig(
        **grpo_fields(config),
        output_dir=str(run.checkpoints),
        seed=config.seed,
        reward_weights=[reward.weight for reward in rewards],
        report_to="none",
        use_cpu=device == "cpu",
        bf16=device == "cuda",
        disable_tqdm=True,
    )
    return GRPOTrainer(
        model=model.to(device),
        reward_funcs=[reward.function for reward in rewards],
        args=arguments,
        train_dataset=training_rows(task, problems.train),
        processing_class=tokenizer,
        peft_config=LoraConfig(**lora_fields(config.lora, model)),
        callbacks=[Log(run)],
    )


def main() -> None:
    """Train what the command line names."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--config", type=Path, required=True)
    made.add_argument("--run", type=Path, required=True, help="folder for metrics.jsonl")
    made.add_argument("--memory", type=Path, required=True, help="JSON file of the peaks")
    asked = made.parse_args()
    build(load_config(asked.config), RunFolder(asked.run)).train()
    note_memory(asked.memory)


if __name__ == "__main__":
    run_command(main)
