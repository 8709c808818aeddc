"""Rewards for `rewards:` of a configuration: a right answer pays in full only with true sums.

PYTHONPATH=recipes/gsm8k xmlgrpo-train --config … rewards: {chain_reward:correct_by_true_sums: 1.0}
"""

from collections.abc import Sequence
from fractions import Fraction

from sums import is_true_chain
from xmlgrpo_rewards.numbers import parse_number
from xmlgrpo_rewards.reply import Completion, completion_text, parse
from xmlgrpo_rewards.scores import correctness_reward_func

GUESSED = 0.25  # of what a right answer pays, where the sums do not lead to it


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


def is_shown(reply: str, gold: str) -> bool:
    """Whether the sums of a reply's reasoning hold and lead to the gold answer."""
    reasoning, answer = parse(reply).reasoning, parse_number(str(gold))
    if reasoning is None or answer is None:
        return False
    return is_true_chain(reasoning, Fraction(answer))
