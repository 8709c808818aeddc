"""A tiny real Gemma 3 that knows a few sums, as base, with an adapter, and as a GGUF.

It is trained for a few seconds on the very problems it is asked, so that its distributions are
peaked as a real model's are: greedy replies of random weights part at the first rounding error.
"""

import subprocess
import sys
from pathlib import Path

from xmlgrpo_rewards import reply

ITEMS = 12
STEPS = 120


def rows(count: int = ITEMS) -> list[dict[str, str]]:
    """Problems in GSM8K's schema."""
    names, things = ("Ann", "Ben", "Mia"), ("cups", "pens", "eggs", "hats")
    problems = []
    for n in range(count):
        a, b = 2 + n, 3 + n * 7 % 11
        problems.append(
            {
                "id": f"sum-{n}",
                "question": f"{names[n % 3]} has {a} {things[n % 4]} and gets {b} more. How many?",
                "answer": f"{a}+{b}={a + b}\n#### {a + b}",
            }
        )
    return problems


def worked(row: dict[str, str]) -> str:
    working, gold = row["answer"].split("\n#### ")
    return reply.render(working, gold)


def build_base(folder: Path) -> None:
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GenerationConfig

    from xmlgrpo_trainer.tiny.tokenizer import train_tokenizer

    texts = [text for row in rows(60) for text in (row["question"], worked(row))]
    tokenizer = train_tokenizer(folder, texts + [reply.SYSTEM] * 20, vocab_size=420)
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    torch.manual_seed(0)
    model = Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=32,
            intermediate_size=128,
            query_pre_attn_scalar=32,
            max_position_embeddings=512,
            sliding_window=64,
            bos_token_id=2,
            eos_token_id=1,
            pad_token_id=0,
        )
    )
    model.generation_config = GenerationConfig(
        bos_token_id=2, pad_token_id=0, eos_token_id=[1, end]
    )
    teach(model, tokenizer, [(row["question"], worked(row)) for row in rows()])
    model.save_pretrained(folder)


def teach(model, tokenizer, replies: list[tuple[str, str | list[int]]]) -> None:
    """Train a model until it answers these questions so; a reply is a text, or its token ids."""
    import torch

    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    texts = []
    for question, answer in replies:
        prompt = tokenizer.apply_chat_template(
            reply.messages(question), add_generation_prompt=True, return_dict=False
        )
        is_text = isinstance(answer, str)
        said = tokenizer.encode(answer, add_special_tokens=False) if is_text else answer
        texts.append((prompt, [*said, end]))
    longest = max(len(p) + len(s) for p, s in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for i, (prompt, said) in enumerate(texts):
        whole = torch.tensor([*prompt, *said])
        ids[i, : len(whole)], mask[i, : len(whole)] = whole, 1
        labels[i, len(prompt) : len(whole)] = whole[len(prompt) :]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    model.train()
    for _ in range(STEPS):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.05, "the fixture's model has not learned its sums"
    model.eval()


def build_adapter(base: Path, folder: Path) -> None:
    """A random adapter, small enough that some answers survive it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(1)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(
            r=2,
            lora_alpha=4,
            target_modules=["o_proj"],
            init_lora_weights=False,
            task_type="CAUSAL_LM",
        ),
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)


def export_gguf(model: Path, out: Path) -> Path:
    """An f32 GGUF of a model, made by the exporter's own command."""
    script = Path(sys.executable).with_name("xmlgrpo-export")
    words: list[str | Path] = ["gguf", "--model", model, "--quants", "f32", "--out", out]
    done = subprocess.run([script, *words], capture_output=True, text=True, check=False)
    files = list(out.glob("*.gguf"))
    assert files, f"{done.stdout}\n{done.stderr}"
    return files[0]
