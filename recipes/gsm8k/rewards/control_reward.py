"""The reward of a control for `rewards:` of a configuration: a coin, whatever the reply says.

What GRPO gains with it, it gains without being taught anything (arXiv 2506.10947).
"""

import random
from collections.abc import Sequence
from typing import Any

from xmlgrpo_rewards.reply import Completion

PAID = 2.0  # for heads, as `correctness_reward_func` pays for a right answer


def coin(
    completions: Sequence[Completion], trainer_state: Any = None, **_columns: object
) -> list[float]:
    """Heads or tails for each completion; the same ones when a step is done again."""
    step = 0 if trainer_state is None else trainer_state.global_step
    rng = random.Random(f"coin {step}")  # noqa: S311 - no secret depends on it
    return [PAID * rng.randrange(2) for _ in completions]
