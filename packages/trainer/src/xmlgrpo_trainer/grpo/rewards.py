"""Reward functions -> what trl calls, guarded; the only module that knows trl's reward signature.

trl takes a raised exception as the end of the run, a NaN as advantage 0 and an infinity as a
silently dead group.  Here each of them stops the run with one sentence that names the function,
the step and the completion, after the last finished step has been saved.  Of several ranks, all
stop when one's function fails.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.scores import completion_text
from xmlgrpo_rewards.total import WeightedReward, score
from xmlgrpo_trainer.ranks.processes import ALONE, Ranks

RewardForTrl = Callable[..., list[float | None]]


class RewardError(UserError):
    """A reward function raised, or returned something that is no score."""


@dataclass(slots=True)
class ScoredBatch:
    """The newest generation batch with its scores, for the samples that are shown and kept.

    Lists run over the B*G completions, the G completions of one prompt side by side.  While a step
    runs, a rank's batch is its own part of that.
    """

    questions: list[str] = field(default_factory=list)
    golds: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    scores: dict[str, list[float | None]] = field(default_factory=dict)


def whole(parts: Sequence[ScoredBatch]) -> ScoredBatch:
    """The batch whose parts the ranks hold, in their order."""
    return ScoredBatch(
        questions=[text for part in parts for text in part.questions],
        golds=[gold for part in parts for gold in part.golds],
        texts=[text for part in parts for text in part.texts],
        scores={
            name: [score for part in parts for score in part.scores[name]]
            for name in parts[0].scores
        },
    )


def trl_rewards(
    rewards: Sequence[WeightedReward], batch: ScoredBatch, ranks: Ranks = ALONE
) -> list[RewardForTrl]:
    """Wrap each reward function with the checks above; `batch` is filled as they are called.

    The wrapper keeps the function's name: trl's metrics and every plot go by it.
    """
    return [_guarded(reward, batch, ranks) for reward in rewards]


def _guarded(reward: WeightedReward, batch: ScoredBatch, ranks: Ranks) -> RewardForTrl:
    def guarded(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        state = columns.get("trainer_state")
        step = state.global_step + 1 if state is not None else 0

        def scored() -> list[float | None]:
            try:
                return score(reward, completions, prompts, **columns)
            except UserError as error:
                raise RewardError(f"at step {step} {error}") from error

        scores = ranks.alike(scored, RewardError)
        batch.questions = [prompt[-1]["content"] for prompt in prompts]
        batch.golds = [str(gold) for gold in columns.get("answer", [""] * len(completions))]
        batch.texts = [completion_text(completion) for completion in completions]
        batch.scores[reward.name] = scores
        return scores

    guarded.__name__ = reward.name
    return guarded
