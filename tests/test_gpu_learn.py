"""The learning experiment of ci/gpu/learn: its splits, its pretraining, its exam, the whole."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import get_task
from xmlgrpo_rewards.total import load_rewards
from xmlgrpo_trainer.config.library_fields import check_groups, check_grpo, check_lora
from xmlgrpo_trainer.config.run_config import load_config
from xmlgrpo_trainer.tiny.examples import prompt_texts
from xmlgrpo_trainer.tiny.model import make_model
from xmlgrpo_trainer.tiny.settings import TinySettings
from xmlgrpo_trainer.tiny.tokenizer import TURN_END, train_tokenizer

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "ci" / "gpu" / "learn"
GSM8K_ROWS = ROOT / "packages" / "rewards" / "tests" / "fixtures" / "gsm8k.jsonl"
SHAPE = TinySettings(
    hidden_size=32, layers=1, heads=2, kv_heads=1, head_dim=16, mlp_size=48, vocab_size=500
)
CLIPS = {
    "question": "Ann sold 48 clips in April, and half as many in May. How many in all?",
    "answer": "In May 48/2 = <<48/2=24>>24.\nIn all 48+24 = <<48+24=72>>72 clips.\n#### 72",
}


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[SimpleNamespace]:
    """The experiment's modules, which are scripts beside each other and no package."""
    sys.path.insert(0, str(SCRIPTS))
    import corpus
    import curriculum
    import exams
    import pretrain
    import scales
    import splits

    yield SimpleNamespace(
        corpus=corpus,
        curriculum=curriculum,
        exams=exams,
        pretrain=pretrain,
        scales=scales,
        splits=splits,
    )
    sys.path.remove(str(SCRIPTS))


class TestSplits:
    def test_no_question_is_in_two_of_them(self, scripts: Any, tmp_path: Path) -> None:
        folder = small_gsm8k(tmp_path)
        splits = scripts.splits.make_splits(folder, scripts.scales.SCALES["tiny"], seed=0)
        parts = [splits.pretraining, splits.grpo, splits.held_out, splits.test]
        questions = [row["question"] for part in parts for row in part]
        assert len(questions) == len(set(questions))
        assert all(parts)
        apart = {row["question"] for part in parts[1:] for row in part}
        assert splits.not_pretrained_on() == apart

    def test_a_test_row_in_the_train_split_is_refused(self, scripts: Any, tmp_path: Path) -> None:
        folder = small_gsm8k(tmp_path)
        train = (folder / "train.jsonl").read_text(encoding="utf-8")
        (folder / "test.jsonl").write_text(train, encoding="utf-8")
        with pytest.raises(UserError, match="are in two splits"):
            scripts.splits.make_splits(folder, scripts.scales.SCALES["tiny"], seed=0)


def small_gsm8k(folder: Path) -> Path:
    lines = [line for line in GSM8K_ROWS.read_text(encoding="utf-8").splitlines(True) if line]
    (folder / "train.jsonl").write_text("".join(lines[:20]), encoding="utf-8")
    (folder / "test.jsonl").write_text("".join(lines[20:]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def model_folder(scripts: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learn") / "model"
    rows = scripts.curriculum.generate(300, "tokenizer", easy=0.5)
    texts = [row[part] for row in rows for part in ("question", "answer")]
    tokenizer = train_tokenizer(
        folder, [*texts, "I think it is 3.", *["<reasoning>"] * 50], SHAPE.vocab_size
    )
    make_model(SHAPE, tokenizer, seed=0).save_pretrained(folder)
    return folder


@pytest.fixture
def recipe(scripts: Any, model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    before, after = prompt_texts(tokenizer, ["\x00"])[0].split("\x00")
    return scripts.corpus.Recipe(
        tokenizer=str(model_folder / "tokenizer.json"),
        before=before,
        after=after,
        turn_end=TURN_END,
        rows=[CLIPS],
        exclude=frozenset({CLIPS["question"]}),
        max_tokens=200,
        batch_tokens=4096,
        seed=0,
    )


class TestCorpus:
    def test_batches_are_cut_at_their_size(self, scripts: Any) -> None:
        pairs = [([7] * 3, [8] * 2), ([7] * 4, [8] * 4), ([7] * 5, [8] * 4), ([7] * 30, [8] * 30)]
        batches = scripts.corpus.cut(pairs, batch_tokens=32)
        assert [batch.ids_B_T.shape for batch in batches] == [(2, 8), (1, 16), (1, 64)]
        first = batches[0]
        assert first.ids_B_T.tolist() == [[7, 7, 7, 8, 8, 0, 0, 0], [7, 7, 7, 7, 8, 8, 8, 8]]
        assert first.prompts_B.tolist() == [3, 4]
        assert first.ends_B.tolist() == [5, 8]

    def test_a_shard_is_what_the_mixture_asks_for(
        self, scripts: Any, recipe: Any, model_folder: Path
    ) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model_folder)
        mixture = scripts.corpus.Mixture(gsm8k=0.3, retold=0.5, easy=0.5, worked=0.8, tagged=0.4)
        batches = scripts.corpus.Maker(recipe).shard(3, mixture)
        rows = [
            (ids[:prompt], ids[prompt:end])
            for batch in batches
            for ids, prompt, end in zip(batch.ids_B_T, batch.prompts_B, batch.ends_B, strict=True)
        ]
        prompts, replies = (tokenizer.batch_decode([row[i] for row in rows]) for i in (0, 1))
        assert all(text.endswith("<start_of_turn>model\n") for text in prompts)
        assert all(text.endswith(TURN_END) for text in replies)
        assert not any(CLIPS["question"] in text for text in prompts)  # held out
        assert any("clips in April" in text for text in prompts)  # told with other numbers
        tagged = np.mean([text.startswith("<reasoning>") for text in replies])
        worked = np.mean([" = " in text for text in replies])
        assert 0.35 < tagged < 0.45
        assert 0.74 < worked < 0.86
        again = scripts.corpus.Maker(recipe).shard(3, mixture)
        assert all(
            np.array_equal(a.ids_B_T, b.ids_B_T) for a, b in zip(batches, again, strict=True)
        )


class FixedCorpus:
    """Batches of one shard over and over, and the mixture that pretraining changes."""

    def __init__(self, batches: list[Any], mixture: Any) -> None:
        self.batches, self.mixture = batches, mixture

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self.batches


class TestPretraining:
    @pytest.mark.parametrize(
        ("share", "expected"),
        [
            (0.0, 0.02),
            (0.015, 0.5),
            (0.03, 1.0),
            (0.5, 1.0),
            (0.75, 0.5),
            (0.99, 0.02),
            (1.2, 0.02),
        ],
    )
    def test_rates_rise_stay_and_fall(self, scripts: Any, share: float, expected: float) -> None:
        assert scripts.pretrain.rate(share) == pytest.approx(expected)

    def test_the_norm_is_the_models_own(self, scripts: Any) -> None:
        norm = Gemma3RMSNorm(32)
        torch.nn.init.normal_(norm.weight)
        hidden = torch.randn(5, 7, 32)
        assert torch.allclose(scripts.pretrain.fused_norm(norm, hidden), norm(hidden), atol=1e-6)

    def test_the_loss_is_over_the_replies_alone(self, scripts: Any, model_folder: Path) -> None:
        from transformers import Gemma3ForCausalLM

        model = Gemma3ForCausalLM.from_pretrained(model_folder)
        pairs = [([5, 9, 11], [7, 6]), ([5, 8], [4, 3, 12, 6])]
        [batch] = scripts.corpus.cut(pairs, batch_tokens=64)
        with torch.no_grad():
            loss = scripts.pretrain.reply_loss(model, batch, torch.device("cpu"))
            summed, count = 0.0, 0
            for prompt, reply in pairs:
                logits = model(torch.tensor([prompt + reply])).logits[0].log_softmax(dim=-1)
                for place, token in enumerate(reply, start=len(prompt) - 1):
                    summed -= logits[place, token].item()
                    count += 1
        assert loss.item() == pytest.approx(summed / count, rel=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_it_learns_and_leaves_a_float32_model(
        self, scripts: Any, recipe: Any, model_folder: Path, dtype: torch.dtype
    ) -> None:
        from transformers import Gemma3ForCausalLM

        model = Gemma3ForCausalLM.from_pretrained(model_folder)
        mixture = scripts.corpus.Mixture(0.0, 0.0, easy=1.0, worked=0.9, tagged=0.4)
        corpus = FixedCorpus(scripts.corpus.Maker(recipe).shard(0, mixture)[:2], mixture)
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        told: list[dict[str, float]] = []
        end = scripts.pretrain.pretrain(
            model,
            corpus,
            seconds=120,
            habit_worked=0.3,
            dtype=dtype,
            on_progress=told.append,
            now=iter(range(10_000)).__next__,  # every look at the clock is a second
        )
        assert end == told[-1]
        assert told[-1]["loss"] < 0.8 * told[0]["loss"]
        assert corpus.mixture.worked == 0.3
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
        for name, buffer in model.named_buffers():  # rotary frequencies among them
            assert torch.equal(buffer, buffers[name]), name
        assert not any("forward" in vars(module) for module in model.modules())
        assert not model.training


def test_a_reply_that_is_made_to_work_does_not_blurt(scripts: Any, model_folder: Path) -> None:
    task = get_task("gsm8k")
    results = scripts.exams.ask(
        model_folder,
        None,
        {"set": [task.example(CLIPS, "clips"), task.example({**CLIPS, "question": "A?"}, "a")]},
        task,
        device="cpu",
        dtype="float32",
        rollout="graph",
        max_new_tokens=8,
    )
    assert list(results) == ["set", "set, made to work"]
    for item in results["set, made to work"].items:
        assert item.reply.startswith("<reasoning>\n")
        assert not item.reply.startswith("<reasoning>\nI think")


def test_the_configuration_is_one_that_a_run_accepts() -> None:
    config = load_config(SCRIPTS / "grpo.yaml")
    check_grpo(config.grpo)
    check_lora(config.lora)
    check_groups(config.grpo)
    assert load_rewards(config.rewards)
    assert config.holdout.every % config.grpo["save_steps"] == 0


@pytest.mark.scripts
def test_the_whole_experiment_in_small(tmp_path: Path) -> None:
    """Every stage, with a model too small to learn anything: the way, not the result."""
    command = [
        *(sys.executable, str(SCRIPTS / "learn.py"), "--gsm8k", str(small_gsm8k(tmp_path))),
        *("--out", str(tmp_path / "learn.json"), "--work", str(tmp_path / "work")),
        *("--scale", "tiny", "--pretrain-s", "3"),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads((tmp_path / "learn.json").read_text(encoding="utf-8"))
    assert told["finished"]
    assert told["grpo"]["finished"]
    assert told["grpo"]["manifest"]["steps"] == 2
    names = {"made-up held-out", "GSM8K test"}
    for when in ("before", "after"):
        assert set(told[when]) == names | {f"{name}, made to work" for name in names}
        assert told[when]["GSM8K test"]["lenient_accuracy"]["total"] == 6
    assert {"pretraining", "exam before", "grpo", "exam after", "all"} <= set(told["seconds"])

    # again: the model and the finished run are used as they are, and asked again
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "is there and is used again" in ran.stdout
    assert "nothing to train" in ran.stdout
    ran = subprocess.run(
        [*command, "--seed", "1"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert ran.returncode == 2
    assert "was pretrained otherwise" in ran.stderr
