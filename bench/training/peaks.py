"""Peak GPU memory of GRPO steps on Gemma 3 shapes: what `xmlgrpo-plan`'s count is held against.

    python -m bench.training.peaks --out docs/measured/peaks-h100.json
    python -m bench.training.peaks --out peaks.json --only 1b-8x256

Thirteen settings that each move another part of the peak, each in a process of its own, one after
another; what the file holds of others is kept.  The weights are random, made on the spot.  trl's
trainer is called as `xmlgrpo_trainer.grpo.trainer` calls it.  The second step counts, since only
then the optimiser's state exists.  Needs a CUDA GPU with 32 GiB, bitsandbytes and liger-kernel.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer

from bench.shared.random_model import SIZES, random_weights
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json

GIB = 2**30
GROUP = 8  # completions of a prompt
STEPS = 2
RANDOM_IDS = (5, 250)  # what a made-up reply consists of; none of them ends a reply
MARKS = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3}
SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
LIBRARIES = ("torch", "trl", "transformers", "peft", "bitsandbytes", "liger-kernel")
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One measurement.

    Attributes:
        name: also of the result.
        size: of Gemma 3; the 4B has its vision tower, which is not trained.
        micro_batch: completions in one forward and backward pass.
        completion_tokens, prompt_tokens: every completion and prompt is that long.
        rank: of a LoRA adapter on all projections of the text model.
        beta: above 0 a reference pass is needed.
        quantized: linear layers in 4 bits (nf4, double quantisation).
        checkpointing: only each layer's input is kept for the backward pass.
        liger: logits in chunks.
        drawn: rows that transformers' generate draws at once; then the rollout's peak is what is
            measured.  0: replies are random ids, and the update's peak is.
    """

    name: str
    size: str
    micro_batch: int
    completion_tokens: int = 256
    prompt_tokens: int = 150
    rank: int = 16
    beta: float = 0.0
    quantized: bool = False
    checkpointing: bool = True
    liger: bool = False
    drawn: int = 0


SETTINGS = (
    Setting("1b-8x256", "1b", 8),
    Setting("1b-16x256", "1b", 16),
    Setting("1b-8x768", "1b", 8, completion_tokens=768),
    Setting("1b-prompt-400", "1b", 8, prompt_tokens=400),
    Setting("1b-rank-64", "1b", 4, rank=64),
    Setting("1b-no-checkpointing", "1b", 8, checkpointing=False),
    Setting("1b-32x256-liger", "1b", 32, liger=True),
    Setting("1b-32x256-beta", "1b", 32, beta=0.04),
    Setting("1b-rollout-64-rows", "1b", 8, completion_tokens=96, drawn=64),
    Setting("4b-nf4-4x256", "4b", 4, quantized=True),
    Setting("4b-nf4-8x512", "4b", 8, completion_tokens=512, quantized=True),
    Setting("4b-nf4-rollout-32-rows", "4b", 2, completion_tokens=48, quantized=True, drawn=32),
    Setting("4b-bf16-4x256", "4b", 4),
)


def measure(setting: Setting) -> dict[str, Any]:
    """Run the steps of one setting on the GPU.

    Returns:
        The setting with its peak and what else was seen, in GiB: `peak_gib` is
        `torch.cuda.max_memory_allocated` of the second step (of its rollout where replies are
        drawn), `reserved_gib` what the allocator held, `resident_gib` what was in use after the
        step.
    """
    torch.manual_seed(0)
    model = random_model(setting)
    weights_gib = torch.cuda.memory_allocated() / GIB
    tokenizer = small_tokenizer()
    seen: list[dict[str, float]] = []
    rollout_gib = 0.0

    def made_up(prompts: list[str], _trainer: Any) -> dict[str, Any]:
        shape = (len(prompts), setting.completion_tokens)
        completions = torch.randint(*RANDOM_IDS, shape).tolist()
        ids = tokenizer(prompts)["input_ids"]
        return {"prompt_ids": ids, "completion_ids": completions, "logprobs": None}

    def reward(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        nonlocal rollout_gib  # what was drawn is graded right after
        rollout_gib = torch.cuda.max_memory_allocated() / GIB
        return [float(sum(ids) % 11) for ids in completion_ids]

    class Steps(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            torch.cuda.reset_peak_memory_stats()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            update_gib = torch.cuda.max_memory_allocated() / GIB
            seen.append(
                {
                    "peak_gib": rollout_gib if setting.drawn else update_gib,
                    "reserved_gib": torch.cuda.max_memory_reserved() / GIB,
                    "resident_gib": torch.cuda.memory_allocated() / GIB,
                }
            )

    lora: dict[str, Any] = {"exclude_modules": ".*vision.*|.*multi_modal.*"}
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=reward,
        args=arguments(setting),
        train_dataset=prompts_of(setting),
        peft_config=LoraConfig(
            r=setting.rank,
            target_modules=PROJECTIONS,
            task_type="CAUSAL_LM",
            **(lora if setting.size == "4b" else {}),
        ),
        rollout_func=None if setting.drawn else made_up,
        callbacks=[Steps()],
    )
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    trainer.train()
    return {
        **dataclasses.asdict(setting),
        "trained_weights": sum(p.numel() for p in trained),
        "adapter_dtype": str(trained[0].dtype).removeprefix("torch."),
        "weights_gib": round(weights_gib, 3),
        **{name: round(value, 3) for name, value in seen[-1].items()},
    }


def random_model(setting: Setting) -> Any:
    """A Gemma 3 of the true shape on the GPU, in bfloat16 or with its linear layers in 4 bits."""
    model = random_weights(SIZES[setting.size], seed=0)
    if setting.quantized:
        packing = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            del model
            torch.cuda.empty_cache()
            model = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch.bfloat16,
                device_map={"": 0},
                quantization_config=packing,
                use_safetensors=True,
            )
    model.generation_config = GenerationConfig(**SPECIAL)
    torch.cuda.empty_cache()
    return model


def small_tokenizer() -> Any:
    """A tokenizer to which every "x" is one token."""
    inner = Tokenizer(models.WordLevel({**MARKS, "x": len(MARKS)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {f"{mark.strip('<>')}_token": mark for mark in MARKS}
    return PreTrainedTokenizerFast(tokenizer_object=inner, padding_side="left", **names)


def prompts_of(setting: Setting) -> Any:
    """Rows of `prompt_tokens` tokens each."""
    return Dataset.from_list([{"prompt": " ".join("x" * setting.prompt_tokens)}] * 64)


def arguments(setting: Setting) -> Any:
    """Arguments for trl: 64 completions a step, or as many as are drawn at once."""
    rows = setting.drawn or 64
    return GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=setting.micro_batch,
        gradient_accumulation_steps=rows // setting.micro_batch,
        num_generations=GROUP,
        max_completion_length=setting.completion_tokens,
        max_steps=STEPS,
        beta=setting.beta,
        bf16=True,
        gradient_checkpointing=setting.checkpointing,
        use_liger_kernel=setting.liger,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def main() -> None:
    """Measure every setting, or the named ones, and write the results as they are measured."""
    named = {setting.name: setting for setting in SETTINGS}
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--out", type=Path, help="the JSON file of the results")
    made.add_argument("--only", nargs="+", choices=named, metavar="NAME")
    made.add_argument("--one", choices=named, help=argparse.SUPPRESS)  # a child's work
    asked = made.parse_args()
    if not torch.cuda.is_available():
        raise UserError("peaks.py needs a CUDA GPU, and torch sees none")
    if asked.one:
        print(json.dumps(measure(named[asked.one])))
        return
    results: dict[str, Any] = {}
    if asked.out and asked.out.is_file():
        results = {r["name"]: r for r in json.loads(asked.out.read_text())["peaks"]}
    for name in asked.only or named:
        command = [sys.executable, "-m", "bench.training.peaks", "--one", name]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if ran.returncode:
            raise UserError(f"{name}: ended with exit code {ran.returncode}")
        results[name] = json.loads(ran.stdout.splitlines()[-1])
        print(f"{name:24} {results[name]['peak_gib']:6.3f} GiB", flush=True)
        if asked.out:
            found = {
                "device": torch.cuda.get_device_name(),
                "total_gib": round(torch.cuda.get_device_properties(0).total_memory / GIB, 2),
                "versions": {library: importlib.metadata.version(library) for library in LIBRARIES},
                "peaks": [results[setting] for setting in named if setting in results],
            }
            write_json(asked.out, found)


if __name__ == "__main__":
    run_command(main)
