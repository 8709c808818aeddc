"""A model folder of a true Gemma 3 shape with random weights, for machines without the real ones.

    python -m bench.shared.random_model --size 1b --gsm8k folder-with-train.jsonl --out folder

The weights are made on the GPU where there is one: the 1B shape takes seconds.  The tokenizer has
Gemma's vocabulary size, special ids and chat template, and pieces learnt from GSM8K's problems, so
that prompts are about as long as with Gemma's own.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from bench.shared.child_process import run_child
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.rows import read_rows
from xmlgrpo_trainer.plan.shapes import GEMMA_3, ModelShape
from xmlgrpo_trainer.tiny.tokenizer import chat_template

TINY = ModelShape(
    name="tiny",
    vocabulary=4096,
    hidden=256,
    layers=6,
    heads=4,
    kv_heads=1,
    head_dim=64,
    mlp=512,
    window=64,
)
SIZES = {"tiny": TINY, **GEMMA_3}
LEARNT_PIECES = 8000  # beyond them the vocabulary is filled with pieces that no text has
POSITIONS = 32_768
PAD, EOS, BOS, UNK = "<pad>", "<eos>", "<bos>", "<unk>"
TURN_START, TURN_END = 105, 106  # where Gemma's tokenizer has them
VISION = {  # SigLIP as the multimodal sizes carry it; see xmlgrpo_trainer/plan/shapes.py
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
}


def make_random_model(folder: Path, size: str, gsm8k: Path, seed: int = 0) -> int:
    """Write tokenizer, configuration and bfloat16 weights into `folder`.

    Args:
        folder: made if it is not there.
        size: a key of `SIZES`.
        gsm8k: the folder with `train.jsonl`, whose texts the tokenizer learns from.
        seed: of the weights.

    Returns:
        How many weights the model has.

    Raises:
        UserError: there is no `train.jsonl`.
    """
    shape = SIZES[size]
    if not (gsm8k / "train.jsonl").is_file():
        raise UserError(f"expected train.jsonl in the folder of GSM8K, found none in {gsm8k}")
    rows = [row.fields for row in read_rows(gsm8k / "train.jsonl")]
    texts = (row[field] for row in rows for field in ("question", "answer"))
    tokenizer = train_tokenizer(texts, shape.vocabulary)
    tokenizer.save_pretrained(folder)
    model = random_weights(shape, seed)
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, TURN_END],
        do_sample=True,
        top_k=64,
        top_p=0.95,
    )
    model.save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())


def train_tokenizer(texts: Iterator[str], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer, digits apart, padding on the left."""
    special = [PAD, EOS, BOS, UNK, *(f"<unused{i}>" for i in range(4, TURN_START))]
    special += ["<start_of_turn>", "<end_of_turn>"]
    inner = Tokenizer(models.BPE(unk_token=UNK))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(LEARNT_PIECES, vocabulary),
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    described = json.loads(inner.to_str())
    pieces = described["model"]["vocab"]
    pieces |= {f"<unused{i}>": i for i in range(len(pieces), vocabulary)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(described)),
        pad_token=PAD,
        eos_token=EOS,
        bos_token=BOS,
        unk_token=UNK,
        padding_side="left",
        model_max_length=POSITIONS,
    )
    tokenizer.chat_template = chat_template()
    return tokenizer


def random_weights(shape: ModelShape, seed: int) -> Any:
    """The model in bfloat16, on the GPU where there is one; with a vision tower from 4B up."""
    text: dict[str, Any] = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "query_pre_attn_scalar": shape.head_dim,
        "intermediate_size": shape.mlp,
        "sliding_window": shape.window,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "dtype": "bfloat16",
    }
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            if shape.vision:
                config = Gemma3Config(
                    text_config=text, vision_config=VISION, mm_tokens_per_image=256
                )
                model = Gemma3ForConditionalGeneration(config)
            else:
                model = Gemma3ForCausalLM(Gemma3TextConfig(**text))
    finally:
        torch.set_default_dtype(torch.float32)
    model.tie_weights()
    return model.to(torch.bfloat16)


def adapted(model: Any, *, has_learnt: bool = False) -> Any:
    """The model with a LoRA adapter on all projections: a new one, or one as after some steps."""
    sizes: dict[str, Any] = {"r": 16, "lora_alpha": 32, "init_lora_weights": not has_learnt}
    lora = LoraConfig(**sizes, target_modules="all-linear", task_type="CAUSAL_LM")
    made = get_peft_model(model, lora)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if has_learnt and "lora_B" in name:
                weight.mul_(0.01)
    return made


def given_or_made(given: Path | None, size: str, gsm8k: Path, folder: Path, limit_s: float) -> Path:
    """The model folder that a command line names, or a random model in `folder`, made once.

    It is made in a process of its own: this one leaves the GPU alone.

    Raises:
        UserError: there is no model in the folder that was named, or none could be made.
    """
    if given is not None:
        if not (given / "config.json").is_file():
            raise UserError(f"--model: expected a model folder, got {given} without config.json")
        return given.resolve()
    model = folder / f"gemma-3-{size}-random"
    if not model.is_dir():
        script = ["-m", "bench.shared.random_model", "--size", size]
        script += ["--gsm8k", str(gsm8k.resolve()), "--out", str(model)]
        ended = run_child(script, cwd=folder, environment={}, limit_s=limit_s)
        if ended["exit_code"] != 0:
            raise UserError("no random model: " + " ".join(ended["last_lines"][-3:]))
        print(f"{ended['last_lines'][-1]}  {ended['seconds']:.0f} s", flush=True)
    return model


def main() -> None:
    """Make the folder that the command line asks for."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--size", choices=tuple(SIZES), required=True)
    made.add_argument("--gsm8k", type=Path, required=True, help="folder with train.jsonl")
    made.add_argument("--out", type=Path, required=True, help="the model folder")
    asked = made.parse_args()
    weights = make_random_model(asked.out, asked.size, asked.gsm8k)
    print(f"{asked.out}: {asked.size}, {weights:,} weights, random")


if __name__ == "__main__":
    run_command(main)
