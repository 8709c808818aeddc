"""Real Gemma 3 270M through every stage, by the commands that a user gives.

The model is the folder in REAL_GEMMA, by default what `make real-gemma` made.  A run is trained for
a moment, then merged, quantized, measured and asked: what is tested is the chain, not the learning.
"""

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import messages
from xmlgrpo_run.files import read_json

from . import stages
from .real_texts import DIFFERENT_IN_LLAMA_CPP, REFUSED_IN_TRAINING, TEXTS

QUANTS = ("q8_0", "q5_k_m", "q4_k_m")
QUESTIONS = {
    "english": "Tom has 3 apples and buys 4 more. How many apples has he?",
    "chinese": "小明有3个苹果，又买了4个。他一共有几个苹果？",
}

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(3600),  # 270 million weights on a CPU that may be busy
]


def command(name: str, *words: object) -> str:
    """What it printed, computed with every core."""
    return stages.command(name, *words, OMP_NUM_THREADS=str(os.cpu_count()))


@pytest.fixture(scope="module")
def base() -> Path:
    """The model's folder."""
    named = os.environ.get("REAL_GEMMA")
    folder = Path(named) if named else stages.ROOT / ".cache" / "real-gemma" / "base"
    if not (folder / "config.json").is_file():
        pytest.fail(f"no model folder at {folder}: make gguf-setup real-gemma, or set REAL_GEMMA")
    return folder.absolute()


@pytest.fixture(scope="module")
def tokenizer(base):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of texts as rows of GSM8K."""
    path = tmp_path_factory.mktemp("questions") / "texts.jsonl"
    rows = [{"question": text, "answer": "It is so.\n#### 7"} for text in TEXTS.values()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step on generated problems, merged and in three GGUF files."""
    home = tmp_path_factory.mktemp("real")
    config = {
        "task": "gsm8k",
        "model": {"name": str(base), "backend": "plain", "device": "cpu"},
        "data": {"source": "generated", "generated_rows": 64},
        "holdout": {"report_rows": 4, "validation_rows": 2, "every": 1},
        "rollout": "graph",
        "lora": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
        "grpo": {
            "max_steps": 1,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 8,
            "num_generations": 4,
            "max_completion_length": 32,
            "temperature": 1.0,
        },
        "watch": {"wandb": "off"},
    }
    (home / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    folder = home / "run"
    command("xmlgrpo-train", "--config", home / "config.yaml", "--run", folder)
    short = ("--prompts", 4, "--new-tokens", 24)
    command("xmlgrpo-export", "merge", "--run", folder, "--dtype", "bfloat16", *short)
    command("xmlgrpo-export", "gguf", "--run", folder, "--quants", *QUANTS, *short)
    return folder


@pytest.fixture(scope="module")
def trained_ids(tokenizer) -> list[list[int]]:
    """The table's prompts as training makes them."""
    from xmlgrpo_trainer.problems.prompts import encode_prompts

    return encode_prompts(tokenizer, [messages(text) for text in TEXTS.values()])


@pytest.mark.parametrize(
    ("text", "told"), REFUSED_IN_TRAINING.values(), ids=REFUSED_IN_TRAINING.keys()
)
def test_a_question_that_would_be_read_as_markup_is_refused(tokenizer, text, told):
    from xmlgrpo_trainer.problems.prompts import encode_prompts

    with pytest.raises(UserError, match=told):
        encode_prompts(tokenizer, [messages(text)])


@pytest.mark.parametrize("form", ["transformers", *QUANTS])
def test_prompts_of_an_evaluation_are_those_of_training(run, questions, trained_ids, form):
    """By the evaluation's own record, and by the hash of the ids that training makes."""
    base = run / "merged"
    model = base if form == "transformers" else run / "gguf" / f"run-{form}.gguf"
    out = questions.with_name(f"{form}.json")
    shortest = ("--max-new-tokens", 1, "--batch-size", 4, "--check-batch", 0, "--quiet")
    words = ("--model", model, "--tokenizer", base, "--data", questions, "--out", out)
    command("xmlgrpo-eval", "run", *words, *shortest)
    prompts = read_json(out)["prompts"]
    assert prompts["first_difference"] is None
    assert prompts["identical"] == prompts["compared"] == len(TEXTS)
    assert prompts["begins_with"] == {"1": len(TEXTS)}
    assert prompts["digest"] == sha256(repr(sorted(trained_ids)).encode()).hexdigest()


def test_what_llama_cpp_reads_otherwise_is_still_just_that(run, tokenizer):
    """Should a new llama.cpp read them as transformers does, the note in docs/export.md goes."""
    from xmlgrpo_gguf.model import GgufModel

    with GgufModel(run / "gguf" / "run-q8_0.gguf") as model:
        for name, text in DIFFERENT_IN_LLAMA_CPP.items():
            ours = tokenizer(text, add_special_tokens=False)["input_ids"]
            theirs = model.tokenize(text, add_bos=False)
            assert theirs != ours, name
            assert b"".join(map(model.piece, theirs)).decode() == text.replace("▁", " "), name


def test_the_merged_model_passed_its_gate(run):
    gate = read_json(run / "merged" / "merge.json")["parity"]
    assert gate["passed"], gate


@pytest.mark.parametrize("quant", QUANTS)
def test_every_gate_was_asked_and_passed(run, quant):
    record = read_json(run / "gguf" / "check.json")["files"][f"run-{quant}.gguf"]
    assert record["quant"] == quant
    assert record["gates"].keys() == stages.GATES
    assert [name for name, gate in record["gates"].items() if not gate["passed"]] == []


def test_the_ladder_climbs_every_form(run):
    command("xmlgrpo-eval", "ladder", "--run", run, "--limit", 2, "--max-new-tokens", 24)
    ladder = read_json(run / "ladder.json")
    labels = [rung["label"] for rung in ladder["rungs"]]
    assert labels == ["base", "tuned", "merged", *(f"run-{quant}" for quant in QUANTS)]


@pytest.mark.parametrize("form", ["adapter", "q4_k_m"])
@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_it_answers(run, tokenizer, question, form):
    from xmlgrpo_trainer.problems.prompts import encode_prompts

    gguf = ("--model", run / "gguf" / f"run-{form}.gguf")
    model = ("--run", run) if form == "adapter" else gguf
    words = (*model, "--question", question, "--max-new-tokens", 24, "--json")
    said = json.loads(command("xmlgrpo-ask", *words))
    assert said["question"] == question
    assert said["reply"].strip()
    assert said["prompt_tokens"] == len(encode_prompts(tokenizer, [messages(question)])[0])
