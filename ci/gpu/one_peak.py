"""Run one setting's GRPO steps on the GPU and print its peak as JSON; see `measure_peaks.py`.

The model has the true shape and random weights, made on the spot; nothing is downloaded.  trl's
trainer is called as `xmlgrpo_trainer.grpo.trainer` calls it.  The second step counts, since only
then the optimiser's state exists.
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from settings import SETTINGS, Setting
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GenerationConfig,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer

from xmlgrpo_rewards.errors import UserError, run_command

GIB = 2**30
GROUP = 8  # completions of a prompt
STEPS = 2
RANDOM_IDS = (5, 250)  # what a made-up reply consists of; none of them ends a reply
MARKS = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3}

# Where the sizes come from is said in xmlgrpo_trainer/plan/shapes.py.
TEXT = {
    "1b": {
        "vocab_size": 262_144,
        "hidden_size": 1152,
        "num_hidden_layers": 26,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "intermediate_size": 6912,
        "sliding_window": 512,
    },
    "4b": {
        "vocab_size": 262_208,
        "hidden_size": 2560,
        "num_hidden_layers": 34,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "intermediate_size": 10240,
        "sliding_window": 1024,
    },
}
COMMON = {"head_dim": 256, "query_pre_attn_scalar": 256, "max_position_embeddings": 32_768}
SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
}
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


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
    text = {**TEXT[setting.size], **COMMON, **SPECIAL}
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        if setting.size == "1b":
            model = Gemma3ForCausalLM(Gemma3TextConfig(**text))
        else:
            config = Gemma3Config(text_config=text, vision_config=VISION, mm_tokens_per_image=256)
            model = Gemma3ForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.tie_weights()
    model = model.to(torch.bfloat16)
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
                folder, dtype=torch.bfloat16, device_map={"": 0}, quantization_config=packing
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
    """Measure the setting that is named."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    named = {setting.name: setting for setting in SETTINGS}
    made.add_argument("setting", choices=named, help="of settings.py")
    asked = made.parse_args()
    if not torch.cuda.is_available():
        raise UserError("one_peak.py needs a CUDA GPU, and torch sees none")
    print(json.dumps(measure(named[asked.setting])))


if __name__ == "__main__":
    run_command(main)
