"""Asking a model: as it answers by itself, and when it is made to work the problem out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from xmlgrpo_rewards.reply import REASONING_OPEN
from xmlgrpo_rewards.task import Example, Task
from xmlgrpo_rollout.choice import choose_engine
from xmlgrpo_rollout.engine import Completion, Engine
from xmlgrpo_rollout.sampling import Sampling
from xmlgrpo_trainer.problems.exam import Exam, HoldoutResult, take
from xmlgrpo_trainer.problems.prompts import stop_ids
from xmlgrpo_trainer.tiny.examples import target

BATCH = 1024  # prompts given to the engine at once
READ_TOGETHER = 256  # prompts whose next token is looked up at once


class MadeToWork:
    """An engine whose replies begin with `<reasoning>` and do not go on with a blurted answer.

    What the model can do when it works, apart from whether it chooses to: GRPO can lift the choice
    up to this mark without teaching anything, and passes it only if it teaches.

    Args:
        engine: answers.
        model, tokenizer: choose the first token after the prefix.
        prefix: the tokens every reply begins with.
        banned: the token that a blurted answer goes on with.
    """

    def __init__(
        self, engine: Engine, model: Any, tokenizer: Any, prefix: Sequence[int], banned: int
    ) -> None:
        self.engine, self.model, self.tokenizer = engine, model, tokenizer
        self.prefix, self.banned = list(prefix), banned

    def refresh(self) -> None:
        """As the engine's own."""
        self.engine.refresh()

    def __call__(
        self, prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling
    ) -> list[Completion]:
        """As the engine's own, greedy only, the forced tokens a part of each completion."""
        firsts = self._firsts([[*prompt, *self.prefix] for prompt in prompts])
        begun = [[*self.prefix, first] for first in firsts]
        asked = [[*prompt, *start] for prompt, start in zip(prompts, begun, strict=True)]
        completions = self.engine(asked, samples, sampling)
        starts = [start for start in begun for _ in range(samples)]
        return [
            Completion([*start, *completion.tokens])
            for start, completion in zip(starts, completions, strict=True)
        ]

    def _firsts(self, texts: Sequence[list[int]]) -> list[int]:
        """The most probable allowed token after each text."""
        firsts: list[int] = []
        for start in range(0, len(texts), READ_TOGETHER):
            padded = self.tokenizer.pad(
                {"input_ids": texts[start : start + READ_TOGETHER]}, return_tensors="pt"
            )
            with torch.no_grad():
                logits_B_V = self.model(
                    **padded.to(self.model.device), logits_to_keep=1, use_cache=False
                ).logits[:, -1]
            logits_B_V[:, self.banned] = float("-inf")
            firsts += logits_B_V.argmax(dim=-1).tolist()
        return firsts


def ask(
    folder: Path,
    adapter: Path | None,
    sets: Mapping[str, Sequence[Example]],
    task: Task,
    *,
    device: str,
    dtype: str,
    rollout: str,
    max_new_tokens: int,
) -> dict[str, HoldoutResult]:
    """Ask a model every set of problems, greedily, by itself and made to work.

    Args:
        folder: of the model.
        adapter: folder of a LoRA adapter on it, or None.
        sets: problems by name.
        task: grades.
        device, dtype, rollout: as in a training run.
        max_new_tokens: of a reply.

    Returns:
        A result for every set's name, and one for the name with ", made to work" after it.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    stops = stop_ids(model, tokenizer)
    engine = choose_engine(rollout, model, tokenizer, stops).engine
    blurted = target("\n#### 0", worked=False, tagged=True).removeprefix(f"{REASONING_OPEN}\n")
    encode = tokenizer.encode
    forced = MadeToWork(
        engine,
        model,
        tokenizer,
        encode(f"{REASONING_OPEN}\n", add_special_tokens=False),
        encode(blurted, add_special_tokens=False)[0],
    )
    results = {}
    engines: dict[str, Engine] = {"": engine, ", made to work": forced}
    for manner, chosen in engines.items():
        exam = Exam(
            engine=chosen,
            tokenizer=tokenizer,
            task=task,
            sampling=Sampling(max_new_tokens, temperature=0.0),
            stops=stops,
            batch_size=BATCH,
        )
        for name, problems in sets.items():
            results[name + manner] = take(exam, problems, step=0)
    return results
