"""Configuration -> how many steps, completions and tokens, and what one GPU has to hold."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xmlgrpo_trainer.config.defaults import LORA_DEFAULTS
from xmlgrpo_trainer.config.run_config import RunConfig
from xmlgrpo_trainer.plan.gpus import Gpu
from xmlgrpo_trainer.plan.load import Load
from xmlgrpo_trainer.plan.shapes import ModelShape

HUB_TRAIN_ROWS = {"openai/gsm8k": 7473}  # counted in openai/grade-school-math, train.jsonl
NOT_FUSED = ("lora_dropout", "use_dora", "lora_bias")  # see gpu.lora.fuse_lora
OPTIMIZER_BYTES_8BIT = 2.0  # both moments, one byte each; without the blocks' small scales


@dataclass(frozen=True, slots=True)
class Schedule:
    """How much a run does.

    Attributes:
        train_rows: problems to train on; None when it cannot be known without a download.
        steps: optimiser steps; None when they depend on an unknown number of rows.
        prompts: distinct prompts a generation batch, over all GPUs.
        group: completions of a prompt.
        rows: completions drawn at once on one GPU.
        micro_batch, micro_batches: completions a backward pass, and passes a step, on one GPU.
        reuse: optimiser steps that one generation batch serves.
        prompt_tokens, completion_tokens: the longest.
        asked: held-out problems asked in the whole run, before, during and after.
    """

    train_rows: int | None
    steps: int | None
    prompts: int
    group: int
    rows: int
    micro_batch: int
    micro_batches: int
    reuse: int
    prompt_tokens: int
    completion_tokens: int
    asked: int | None

    @property
    def rollouts(self) -> int | None:
        """Completions drawn in all for training."""
        if self.steps is None:
            return None
        return math.ceil(self.steps / self.reuse) * self.prompts * self.group

    @property
    def tokens_per_step(self) -> int:
        """At most, prompts and completions, that one optimiser step learns from on one GPU."""
        length = self.prompt_tokens + self.completion_tokens
        return self.micro_batch * self.micro_batches * length


def schedule(config: RunConfig, fields: dict[str, Any], gpus: int) -> Schedule:
    """Count the run.

    Args:
        config: the run's configuration.
        fields: every field of `trl.GRPOConfig`, defaults filled in.
        gpus: processes that share a generation batch.
    """
    group = fields["num_generations"]
    micro, accumulate = fields["per_device_train_batch_size"], fields["gradient_accumulation_steps"]
    batch = fields["generation_batch_size"]
    if batch is None:
        batch = micro * gpus * (fields["steps_per_generation"] or accumulate)
    per_generation = max(1, batch // (micro * gpus))
    reuse = max(1, per_generation * fields["num_iterations"] // accumulate)
    rows = train_rows(config)
    steps: int | None = fields["max_steps"] if fields["max_steps"] > 0 else None
    if steps is None and rows is not None:
        generations = max(1, rows // max(1, batch // group)) * fields["num_train_epochs"]
        steps = math.ceil(generations * reuse)
    holdout = config.holdout
    asked = None
    if steps is not None:
        times = 1 + math.ceil(steps / holdout.every)  # at step 0 and at the end too
        asked = 2 * holdout.report_rows + holdout.validation_rows * times
    return Schedule(
        train_rows=rows,
        steps=steps,
        prompts=batch // group,
        group=group,
        rows=batch // gpus,
        micro_batch=micro,
        micro_batches=accumulate,
        reuse=reuse,
        prompt_tokens=config.data.max_prompt_tokens,
        completion_tokens=fields["max_completion_length"],
        asked=asked,
    )


def train_rows(config: RunConfig) -> int | None:
    """Problems to train on, before over-long ones are left out; None when not known here."""
    from xmlgrpo_rewards.task import get_task

    holdout = config.holdout
    held_out = 0 if holdout.path else holdout.report_rows + holdout.validation_rows
    data = config.data
    if data.source == "generated":
        rows: int | None = data.generated_rows
    elif data.source == "json":
        rows = _lines(Path(data.path or ""))
        rows = None if rows is None else max(0, rows - held_out)
    else:
        rows = HUB_TRAIN_ROWS.get(get_task(config.task).dataset)
        rows = None if rows is None else max(0, rows - held_out)
    if data.limit is not None:
        rows = data.limit if rows is None else min(rows, data.limit)
    return rows


def _lines(path: Path) -> int | None:
    path = path / "train.jsonl" if path.is_dir() else path
    try:
        with path.open("rb") as lines:
            return sum(1 for line in lines if line.strip())
    except OSError:
        return None


def load_on_gpu(
    config: RunConfig,
    fields: dict[str, Any],
    planned: Schedule,
    shape: ModelShape,
    gpu: Gpu | None,
    *,
    liger: bool,
) -> Load:
    """What one GPU, or the CPU when `gpu` is None, has to hold.

    Args:
        config: the run's configuration.
        fields: every field of `trl.GRPOConfig`, defaults filled in.
        planned: from `schedule`.
        shape: of the model.
        gpu: that it runs on.
        liger: whether liger-kernel is there: then training on a GPU takes it by itself.
    """
    lora = {**LORA_DEFAULTS, **config.lora}
    trained = shape.lora_weights(lora["r"], lora["target_modules"])
    adapter_bytes = 2 if config.model.load_in_4bit else 4
    eight_bit = "8bit" in str(fields["optim"])
    vllm_gib = fields["vllm_gpu_memory_utilization"] * gpu.memory_gib if gpu else 0.0
    engine = rollout_engine(config)
    most_asked = max(config.holdout.report_rows, config.holdout.validation_rows)
    checkpointing = config.grpo.get("gradient_checkpointing", gpu is not None)
    # several processes, too: update.build_trainer asks only for a GPU and the plain backend
    ours = gpu is not None and config.model.backend != "unsloth"
    bytes_a_number = number_bytes(config, gpu)
    aligned = ours and bytes_a_number < 4 and config.model.attn_implementation in {None, "sdpa"}
    rounds = engine == "vllm" or (engine == "graph" and bytes_a_number < 4)
    # of a batch that is used once, our loss corrects by what it computes anyway (mismatch.py)
    uses = (fields["steps_per_generation"] or planned.micro_batches) * fields["num_iterations"]
    is_late = ours and engine == "graph" and planned.micro_batches % uses == 0
    corrected = rounds and fields["vllm_importance_sampling_correction"] and not is_late
    return Load(
        shape=shape,
        number_bytes=bytes_a_number,
        quantized=config.model.load_in_4bit,
        lora_weights=trained,
        optimizer_bytes=OPTIMIZER_BYTES_8BIT if eight_bit else 2.0 * adapter_bytes,
        engine=engine,
        rows=planned.rows,
        group=planned.group,
        held_out_rows=min(config.holdout.batch_size, most_asked),
        micro_batch=planned.micro_batch,
        prompt_tokens=planned.prompt_tokens,
        completion_tokens=planned.completion_tokens,
        held_out_tokens=config.holdout.max_new_tokens or planned.completion_tokens,
        checkpointing=bool(checkpointing),
        liger=bool(config.grpo.get("use_liger_kernel", liger and ours)),
        ours=ours,
        aligned=aligned,
        windowed=aligned and gpu is not None and gpu.bfloat16,
        fused_lora=ours and not any(lora.get(name) for name in NOT_FUSED),
        second_pass=fields["beta"] > 0 or planned.reuse > 1 or corrected,
        vllm_gib=vllm_gib if engine == "vllm" else 0.0,
        room_gib=gpu.memory_gib if gpu else None,
    )


def number_bytes(config: RunConfig, gpu: Gpu | None) -> int:
    """2 for bfloat16, 4 for float32, as `model.dtype` and the GPU decide."""
    dtype = config.model.dtype
    if dtype == "auto":
        dtype = "bfloat16" if gpu is not None and gpu.bfloat16 else "float32"
    return 2 if dtype == "bfloat16" else 4


def rollout_engine(config: RunConfig) -> Literal["generate", "graph", "vllm"]:
    """The engine that `rollout: auto` takes: `graph`, but for weights in 4 bits."""
    if config.rollout != "auto":
        return config.rollout
    return "generate" if config.model.load_in_4bit else "graph"
