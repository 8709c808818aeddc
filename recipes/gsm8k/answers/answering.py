"""A model folder, perhaps with an adapter, that answers rows with the rollout engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recipes.gsm8k.rewards.chain_reward import is_shown
from xmlgrpo_rewards.task import Example, Grade, get_task
from xmlgrpo_rollout.choice import choose_engine
from xmlgrpo_rollout.engine import Engine, Sampling
from xmlgrpo_rollout.stop_tokens import stop_ids
from xmlgrpo_trainer.problems.prompts import encode_prompts

ROWS_AT_ONCE = 2048  # replies; the engine itself grows fewer side by side


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply.

    Attributes:
        text: without special tokens.
        tokens: how many, the ending one included.
        ended: whether it ended by itself.
        grade: of the task.
        shown: right, and its sums hold and lead to the answer.
        logprob: summed over its tokens; None where the engine gives none.
    """

    text: str
    tokens: int
    ended: bool
    grade: Grade
    shown: bool
    logprob: float | None


@dataclass(frozen=True, slots=True)
class Answering:
    """A loaded model."""

    engine: Engine
    tokenizer: Any
    stops: Sequence[int]

    def replies(
        self, examples: Sequence[Example], samples: int, sampling: Sampling
    ) -> list[list[Reply]]:
        """So many replies to each problem."""
        found: list[list[Reply]] = []
        together = max(1, ROWS_AT_ONCE // samples)
        for start in range(0, len(examples), together):
            found += self._some(examples[start : start + together], samples, sampling)
        return found

    def _some(
        self, examples: Sequence[Example], samples: int, sampling: Sampling
    ) -> list[list[Reply]]:
        task = get_task("gsm8k")
        prompts = encode_prompts(self.tokenizer, [task.messages(e.question) for e in examples])
        completions = self.engine(prompts, samples, sampling)
        texts = self.tokenizer.batch_decode(
            [completion.tokens for completion in completions], skip_special_tokens=True
        )
        replies = []
        for number, (completion, text) in enumerate(zip(completions, texts, strict=True)):
            example = examples[number // samples]
            grade = task.grade(text, example)
            replies.append(
                Reply(
                    text=text,
                    tokens=len(completion.tokens),
                    ended=bool(completion.tokens) and completion.tokens[-1] in self.stops,
                    grade=grade,
                    shown=grade.strict_correct and is_shown(text, example.gold),
                    logprob=None if completion.logprobs is None else sum(completion.logprobs),
                )
            )
        return [replies[i : i + samples] for i in range(0, len(replies), samples)]


def open_model(folder: Path, adapter: Path | None, device: str) -> Answering:
    """Load a model as a run does: bfloat16 on a GPU, float32 on a CPU."""
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - after --help

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True).to(
        device
    )
    if adapter is not None:
        from peft import PeftModel  # noqa: PLC0415 - as above

        model = PeftModel.from_pretrained(model, adapter)
    stops = stop_ids(model, tokenizer)
    model.eval()
    return Answering(choose_engine("graph", model, tokenizer, stops).engine, tokenizer, stops)


def examples_of(rows: Sequence[dict[str, Any]]) -> list[Example]:
    """The problems of rows."""
    task = get_task("gsm8k")
    return [task.example(row, f"row {number}") for number, row in enumerate(rows)]
