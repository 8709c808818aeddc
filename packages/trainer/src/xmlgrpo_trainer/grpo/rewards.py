"""Reward functions -> what trl calls, guarded; the only module that knows trl's reward signature.

trl takes a raised exception as the end of the run, a NaN as advantage 0 and an infinity as a
silently dead group.  Here each of them stops the run with one sentence that names the function,
the step and the completion, after the last finished step has been saved.  Of several ranks, all
stop when one's function fails.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from xmlgrpo_rewards.completions import completion_text
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.total import WeightedReward
from xmlgrpo_trainer.ranks.processes import ALONE, Ranks

SHOWN_CHARS = 200


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
) -> list[Callable[..., list[float | None]]]:
    """Wrap each reward function with the checks above; `batch` is filled as they are called.

    The wrapper keeps the function's name: trl's metrics and every plot go by it.
    """
    return [_guarded(reward, batch, ranks) for reward in rewards]


def _guarded(
    reward: WeightedReward, batch: ScoredBatch, ranks: Ranks
) -> Callable[..., list[float | None]]:
    def scored(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        state = columns.get("trainer_state")
        step = state.global_step + 1 if state is not None else 0
        texts = [completion_text(completion) for completion in completions]
        where = f"reward function {reward.name!r} at step {step}"

        def called() -> list[float | None]:
            try:
                raw = reward.function(prompts=prompts, completions=completions, **columns)
            except Exception as error:  # whatever a user's function raises
                raise RewardError(
                    f"{where} raised {type(error).__name__}: {error}. "
                    f"First completion of the batch: {_shown(texts[0])}"
                ) from error
            return _checked(raw, texts, where)

        scores = ranks.alike(called, RewardError)
        batch.questions = [_question(prompt) for prompt in prompts]
        batch.golds = [str(gold) for gold in columns.get("answer", [""] * len(texts))]
        batch.texts = texts
        batch.scores[reward.name] = scores
        return scores

    scored.__name__ = reward.name
    return scored


def _checked(raw: Any, texts: list[str], where: str) -> list[float | None]:
    if not isinstance(raw, Sequence) or len(raw) != len(texts):
        came = f"{len(raw)} values" if isinstance(raw, Sequence) else type(raw).__name__
        raise RewardError(
            f"{where}: expected a list of {len(texts)} numbers, one a completion, got {came}"
        )
    scores: list[float | None] = []
    for value, text in zip(raw, texts, strict=True):
        if value is None:  # trl's way to say that the function has no opinion on this one
            scores.append(None)
            continue
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise RewardError(
                f"{where}: expected a finite number, got {value!r} for the completion "
                f"{_shown(text)}"
            )
        scores.append(float(value))
    return scores


def _question(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…")
