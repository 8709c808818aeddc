"""Configuration -> how much a run does, and what one GPU has to hold for it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.rows import files_of
from xmlgrpo_rewards.task import Task, get_task
from xmlgrpo_rollout.which_engine import EngineName, joined_reasons, name_engine, why_not_merged
from xmlgrpo_run.rows import count_rows
from xmlgrpo_trainer.config.batch import rows_together
from xmlgrpo_trainer.config.defaults import LORA_DEFAULTS
from xmlgrpo_trainer.config.run_config import RunConfig
from xmlgrpo_trainer.plan.gpus import Gpu
from xmlgrpo_trainer.plan.shapes import ModelShape

HUB_TRAIN_ROWS = {"openai/gsm8k": 7473}  # counted in openai/grade-school-math, train.jsonl
NOT_FUSED = ("lora_dropout", "use_dora", "lora_bias")  # see grpo.fast_step.lora.fuse_lora
OPTIMIZER_BYTES_8BIT = 2.0  # both moments, one byte each; without the blocks' small scales


@dataclass(frozen=True, slots=True)
class Load:
    """What a run does and asks of one GPU: what its memory and its time are counted from."""

    shape: ModelShape
    number_bytes: int  # of a weight that is not 4-bit; 2 for bfloat16, 4 for float32
    quantized: bool  # linear layers in 4 bits
    lora_weights: int  # trained weights
    optimizer_bytes: float  # both moments of a trained weight
    engine: EngineName  # draws the completions
    rows: int  # completions drawn at once, if there is room
    group: int  # completions per prompt
    held_out_rows: int  # completions drawn at once for held-out problems
    micro_batch: int  # completions in one forward and backward pass
    prompt_tokens: int  # the longest
    completion_tokens: int  # the longest in training
    held_out_tokens: int  # the longest to a held-out problem
    int8: bool = False  # training's completions are drawn with a second copy, in 8 bits
    narrow: bool = False  # matrices in float16, all else in float32
    checkpointing: bool = True  # only each layer's input is kept for the backward pass
    liger: bool = False  # Liger's norms and GeGLU, and no whole logits
    ours: bool = False  # trl's training step with the operations of grpo.fast_step
    packed: bool = False  # grpo.packed_step: each prompt once for all its completions, no padding
    shuffled: bool = False  # a micro-batch may be of as many prompts as it has completions
    fused_lora: bool = False  # each adapted projection is one of those; not with dropout or DoRA
    ragged: bool = True  # prompts of unlike lengths, so that texts are padded and masked ...
    aligned: bool = False  # ... unless grpo.fast_step.padding puts the padding behind the text
    windowed: bool = False  # grpo.fast_step.sliding_window needs no mask past the window either
    second_pass: bool = False  # of a reference, an old policy or an engine that rounds
    vllm_gib: float = 0.0  # what vLLM takes for itself
    room_gib: float | None = None  # of the GPU, to which the graph engine fits its cache
    # the whole run
    train_rows: int | None = None  # problems to train on; None: not known without a download
    steps: int | None = None  # optimiser steps; None: not known without the rows
    prompts: int = 1  # distinct ones of a generation batch, over all GPUs
    micro_batches: int = 1  # backward passes per step
    reuse: int = 1  # optimiser steps that one generation batch serves
    asked: int | None = None  # held-out problems, before, during and after training

    @property
    def adapter_bytes(self) -> int:
        """Of an adapter weight: trl makes a 4-bit model's bfloat16, else peft keeps float32."""
        return 2 if self.quantized else 4

    @property
    def length(self) -> int:
        """Tokens of a text: the longest prompt and the longest completion."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def micro_tokens(self) -> int:
        """Tokens of a micro-batch in one pass, at most."""
        return self.pass_prompts * self.prompt_tokens + self.micro_batch * self.completion_tokens

    @property
    def pass_prompts(self) -> int:
        """How often a prompt stands in a micro-batch."""
        if not self.packed or self.shuffled:
            return self.micro_batch
        beside = self.micro_batch - math.gcd(self.micro_batch, self.group)
        return -(-beside // self.group) + 1

    @property
    def rollouts(self) -> int | None:
        """Completions drawn in all for training, over all GPUs."""
        if self.steps is None:
            return None
        return math.ceil(self.steps / self.reuse) * self.prompts * self.group

    @property
    def tokens_per_step(self) -> int:
        """At most, prompts and completions, that one optimiser step learns from on one GPU."""
        return self.micro_batch * self.micro_batches * self.length

    @property
    def adapter_rank(self) -> float:
        """Of LoRA on all projections; the mean over them where only some are adapted."""
        widths = sum(sum(sizes) for sizes in self.shape.projections().values())
        return self.lora_weights / (self.shape.layers * widths)

    @property
    def scored_rows(self) -> int:
        """Completions in one pass without gradient, where logits are not whole."""
        if self.packed:
            return min(self.rows, self.micro_batch)
        if not self.ours:
            return self.rows
        return min(self.rows, rows_together(self.length, self.micro_batch))


def load_of(
    config: RunConfig,
    fields: dict[str, Any],
    shape: ModelShape,
    gpu: Gpu | None,
    gpus: int = 1,
    *,
    liger: bool = False,
) -> Load:
    """What a run does and asks of each GPU, or of the CPU when `gpu` is None.

    Args:
        fields: every field of `trl.GRPOConfig`, as each of the processes gets it.
        liger: liger-kernel is there: then training on a GPU takes it by itself.
    """
    model, holdout, lora = config.model, config.holdout, {**LORA_DEFAULTS, **config.lora}
    group, micro = fields["num_generations"], fields["per_device_train_batch_size"]
    accumulate = fields["gradient_accumulation_steps"]
    per_generation = fields["steps_per_generation"] or accumulate
    batch = fields["generation_batch_size"] or micro * gpus * per_generation
    reuse = max(1, batch // (micro * gpus) * fields["num_iterations"] // accumulate)
    drawn = round(batch // group * config.sampling.draw)  # groups, not all of them learnt from
    rows = _train_rows(config)
    steps: int | None = fields["max_steps"] if fields["max_steps"] > 0 else None
    if steps is None and rows is not None:
        generations = max(1, rows // max(1, batch // group)) * fields["num_train_epochs"]
        steps = math.ceil(generations * reuse)
    asked = None
    if steps is not None:
        times = 1 + math.ceil(steps / holdout.every)  # at step 0 and at the end too
        asked = 2 * holdout.report_rows + holdout.validation_rows * times
    number_bytes, engine = _number_bytes(config, gpu), engine_of(config, shape)
    # several processes, too: training asks only for a GPU and the plain backend
    ours = gpu is not None and model.backend != "unsloth"
    aligned = ours and number_bytes < 4 and model.attn_implementation in {None, "sdpa"}
    int8 = config.rollout_weights == "int8"
    rounds = engine == "vllm" or (engine == "graph" and (number_bytes < 4 or int8))
    # of a batch that is used once, our loss corrects by what it computes anyway (mismatch.py)
    uses = per_generation * fields["num_iterations"]
    is_late = ours and engine == "graph" and accumulate % uses == 0
    corrected = rounds and fields["vllm_importance_sampling_correction"] and not is_late
    vllm_share = fields["vllm_gpu_memory_utilization"] if engine == "vllm" else 0.0
    quantized = model.load_in_4bit or shape.packed
    moments_bytes = 4.0 if quantized else 8.0
    if "8bit" in str(fields["optim"]):
        moments_bytes = OPTIMIZER_BYTES_8BIT
    return Load(
        shape=shape,
        number_bytes=number_bytes,
        quantized=quantized,
        lora_weights=shape.lora_weights(lora["r"], lora["target_modules"]),
        optimizer_bytes=moments_bytes,
        engine=engine,
        rows=drawn * group // gpus,
        group=group,
        held_out_rows=min(holdout.batch_size, max(holdout.report_rows, holdout.validation_rows)),
        micro_batch=micro,
        prompt_tokens=config.data.max_prompt_tokens,
        completion_tokens=fields["max_completion_length"],
        held_out_tokens=holdout.max_new_tokens or fields["max_completion_length"],
        int8=int8,
        narrow=model.float16_products,
        checkpointing=bool(config.grpo.get("gradient_checkpointing", gpu is not None)),
        liger=bool(config.grpo.get("use_liger_kernel", liger and ours)),
        ours=ours,
        packed=config.packed_rows,
        shuffled=per_generation > accumulate,
        aligned=aligned,
        windowed=aligned and gpu is not None and gpu.bfloat16,
        fused_lora=ours and not any(lora.get(name) for name in NOT_FUSED),
        second_pass=fields["beta"] > 0 or reuse > 1 or corrected,
        vllm_gib=vllm_share * gpu.memory_gib if gpu else 0.0,
        room_gib=gpu.memory_gib if gpu else None,
        train_rows=rows,
        steps=steps,
        prompts=drawn,
        micro_batches=accumulate,
        reuse=reuse,
        asked=asked,
    )


def _train_rows(config: RunConfig) -> int | None:
    """Problems to train on, before over-long ones are left out; None when not known here."""
    data, holdout = config.data, config.holdout
    if data.source == "generated":
        rows: int | None = data.generated_rows
    else:
        is_file = data.source == "json"
        task = get_task(config.task)
        rows = _rows(data.path or "", task) if is_file else HUB_TRAIN_ROWS.get(task.dataset)
        if rows is not None and not holdout.path:
            rows = max(0, rows - holdout.report_rows - holdout.validation_rows)
    if data.limit is not None:
        rows = data.limit if rows is None else min(rows, data.limit)
    return rows


def _rows(path: str, task: Task) -> int | None:
    try:
        return sum(map(count_rows, files_of(Path(path), "train", "data.path", task.dataset_config)))
    except UserError:
        return None


def _number_bytes(config: RunConfig, gpu: Gpu | None) -> int:
    """2 for bfloat16, 4 for float32, as `model.dtype` and the GPU decide."""
    dtype = config.model.dtype
    if dtype == "auto":
        dtype = "bfloat16" if gpu is not None and gpu.bfloat16 else "float32"
    return 2 if dtype == "bfloat16" else 4


def engine_of(config: RunConfig, shape: ModelShape) -> EngineName:
    """The engine that the run will take.

    Raises:
        UserError: `graph` is asked for, or what needs it, and cannot serve this model or adapter.
    """
    obstacle = joined_reasons(shape.obstacle, why_not_merged(config.lora))
    packed = config.model.load_in_4bit or shape.packed
    int8 = config.rollout_weights == "int8"
    name, reason = name_engine(config.rollout, obstacle, packed=packed, on_gpu=False, int8=int8)
    if config.merged_pass and name != "graph":
        raise UserError(
            f"merged_pass: expected rollout graph, whose weights it computes with, got {name} "
            f"({reason}); set merged_pass to false"
        )
    return name
