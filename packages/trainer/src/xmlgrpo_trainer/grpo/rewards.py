"""Reward functions -> what trl calls, guarded; the only module that knows trl's reward signature.

trl takes a raised exception as the end of the run, a NaN as advantage 0 and an infinity as a
silently dead group.  Here each of them stops the run with one sentence that names the function,
the step and the completion, after the last finished step has been saved.  Of several ranks, all
stop when one's function fails.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.grading import examples_of
from xmlgrpo_rewards.reply import completion_text
from xmlgrpo_rewards.task import Example
from xmlgrpo_rewards.total import WeightedReward, score
from xmlgrpo_trainer.ranks.processes import ALONE, Ranks

RewardForTrl = Callable[..., list[float | None]]


class RewardError(UserError):
    """A reward function raised, or returned something that is no score."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One completion of the newest generation batch, with its scores by reward."""

    example: Example
    completion: str
    scores: dict[str, float | None]


def trl_rewards(
    rewards: Sequence[WeightedReward], batch: list[Scored], ranks: Ranks = ALONE
) -> list[RewardForTrl]:
    """Wrap each reward function with the checks above.

    The wrapper keeps the function's name: trl's metrics and every plot go by it.

    Args:
        batch: filled as they are called, in trl's order: the B*G completions of this rank, the G
            completions of one prompt side by side.
    """
    return [_guarded(reward, batch, ranks, begins=reward is rewards[0]) for reward in rewards]


def _guarded(
    reward: WeightedReward, batch: list[Scored], ranks: Ranks, *, begins: bool
) -> RewardForTrl:
    def guarded(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        state = columns.get("trainer_state")
        step = state.global_step + 1 if state is not None else 0

        def scored() -> list[float | None]:
            try:
                return score(reward, completions, prompts, **columns)
            except UserError as error:
                raise RewardError(f"at step {step} {error}") from error

        scores = ranks.alike(scored, RewardError)
        if begins:
            examples = examples_of(columns, len(completions))
            batch[:] = [
                Scored(example, completion_text(completion), {})
                for example, completion in zip(examples, completions, strict=True)
            ]
        for completion, value in zip(batch, scores, strict=True):
            completion.scores[reward.name] = value
        return scores

    guarded.__name__ = reward.name
    return guarded
