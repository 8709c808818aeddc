"""Small real models and adapters: Gemma's shapes and files, a few seconds on a CPU.

The base is trained just enough to answer in the reply format, so that its distributions are peaked
as a real model's are: greedy replies of random weights part at the first rounding error.
"""

import shutil
from pathlib import Path

from finished_runs import base_of, finished
from xmlgrpo_rewards import reply
from xmlgrpo_run.digests import model_digest
from xmlgrpo_run.folder import RunFolder

NAMES = ("Tom", "Ann", "Mia", "Ben", "Kim", "Sam")
THINGS = ("stamps", "cards", "apples", "books")


def problems(count: int) -> list[tuple[str, str]]:
    """Questions with replies, the same ones every time."""
    rows = []
    for i in range(count):
        name, thing = NAMES[i % 6], THINGS[i % 4]
        a, b = 2 + i % 17, 3 + i * 7 % 23
        question = f"{name} has {a} {thing} and gets {b} more. How many {thing} are there?"
        rows.append((question, reply.render(f"{a} + {b} = {a + b}", str(a + b))))
    return rows


def build_tokenizer(folder: Path):
    """A tokenizer in Gemma's form, as the embedded default has one, that knows these problems."""
    from xmlgrpo_trainer.tiny.tokenizer import train_tokenizer

    texts = [text for row in problems(300) for text in row] + [reply.SYSTEM] * 20
    return train_tokenizer(folder, texts, vocab_size=480)


TEXT_SHAPE = {
    "vocab_size": 512,  # longer than the tokenizer, as Gemma's table is
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "intermediate_size": 512,
    "max_position_embeddings": 1024,
    "sliding_window": 256,
    "query_pre_attn_scalar": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}


def teach(model, tokenizer, steps: int) -> None:
    """Train the model on the reply format until it has something to say."""
    import torch

    texts = [
        tokenizer.apply_chat_template(
            reply.messages(question), tokenize=False, add_generation_prompt=True
        )
        + answer
        + "<end_of_turn>"
        for question, answer in problems(64)
    ]
    batch = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        rows = torch.arange(step * 8, step * 8 + 8) % len(texts)
        loss = model(
            input_ids=batch["input_ids"][rows],
            attention_mask=batch["attention_mask"][rows],
            labels=labels[rows],
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def add_adapter(model, folder: Path, targets) -> None:
    """A LoRA adapter whose B is not zero, saved as the trainer saves it."""
    import torch
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM")
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.005)
    wrapped.save_pretrained(folder)
    wrapped.unload()


def write_run(folder: Path, base: Path, class_name: str) -> None:
    """The adapter's tokenizer and the manifest, as the trainer leaves them."""
    for path in base.glob("*"):
        if path.name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(path, folder / "adapter" / path.name)
    run = RunFolder(folder)
    finished(
        run,
        base,
        base=base_of(run, base, model_class=class_name),
        adapter=model_digest(run.adapter),
    )
