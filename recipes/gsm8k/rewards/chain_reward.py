"""Rewards for `rewards:` of a configuration: a right answer pays in full only with true sums.

    PYTHONPATH=recipes/gsm8k/rewards xmlgrpo-train --config …

with `rewards: {chain_reward:correct_by_true_sums: 1.0}`.
"""

import os
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.numbers import parse_number
from xmlgrpo_rewards.reply import Completion, completion_text, parse
from xmlgrpo_rewards.rows import text_rows
from xmlgrpo_rewards.scores import correctness_reward_func
from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.measures.sums import is_true_chain, written_sums

GUESSED = 0.25  # of what a right answer pays, where the sums do not lead to it
ROWS = "GSM8K_ROWS"  # names the file of the rows that are trained on, with their solutions
RESULT = re.compile(r"<<[^<>=]*=([^<>=]*)>>")


def correct_by_true_sums(
    prompts: object, completions: Sequence[Completion], answer: Sequence[str], **columns: object
) -> list[float]:
    """What `correctness_reward_func` pays, or a quarter where the reasoning does not support it.

    It does where it has a sum, every sum holds, and the last one comes to the answer.
    """
    paid = correctness_reward_func(prompts, completions, answer, **columns)
    return [
        pay if not pay or is_shown(completion_text(text), gold) else GUESSED * pay
        for text, gold, pay in zip(completions, answer, paid, strict=True)
    ]


def steps_met(
    prompts: Sequence[Sequence[Mapping[str, str]]],
    completions: Sequence[Completion],
    **_columns: object,
) -> list[float]:
    """The share of the solution's results that true sums of the reasoning come to, in its order.

    It tells replies apart that are all wrong in the end.  Unlike the other rewards it needs the
    solutions of GSM8K, which stand in the file that GSM8K_ROWS names.
    """
    by_prompt = _results(os.environ.get(ROWS))
    return [
        share_met(completion_text(text), by_prompt[prompt[-1]["content"]])
        for prompt, text in zip(prompts, completions, strict=True)
    ]


def share_met(reply: str, wanted: Sequence[Fraction]) -> float:
    """Of the results `wanted`, those met one after the other."""
    met = 0
    for found in written_sums(parse(reply).reasoning or ""):
        if met < len(wanted) and found.holds and found.result == wanted[met]:
            met += 1
    return met / len(wanted) if wanted else 0.0


@cache
def _results(path: str | None) -> dict[str, tuple[Fraction, ...]]:
    if path is None:
        raise UserError(f"steps_met needs the environment variable {ROWS}: a file of rows")
    task = get_task("gsm8k")
    return {
        task.messages(row.fields["question"])[-1]["content"]: results_of(row.fields["answer"])
        for row in text_rows(Path(path))
    }


def results_of(solution: str) -> tuple[Fraction, ...]:
    """The results in the notes of a solution of GSM8K."""
    numbers = (parse_number(text) for text in RESULT.findall(solution))
    return tuple(Fraction(number) for number in numbers if number is not None)


def is_shown(reply: str, gold: str) -> bool:
    """Whether the sums of a reply's reasoning hold and lead to the gold answer."""
    reasoning, answer = parse(reply).reasoning, parse_number(str(gold))
    if reasoning is None or answer is None:
        return False
    return is_true_chain(reasoning, Fraction(answer))
