"""Batches drawn from another policy than the one that learns: named, and a reason to stop.

The engine that draws the completions computes a little differently from the policy.  trl's
importance ratio weighs that in the loss and logs it; where engine and policy really disagree (a
fault in either, stale weights, another adapter), the whole batch weighs nothing, the gradient is 0
and the loss still looks well.  Three runs on Gemma 3 270M in bfloat16 set the limits: of their 591
sound batches the mean ratio was 0.85 or more and the farthest token 7.8 nats away; of their 18
lost ones the mean ratio was below 0.01 and the farthest token 38 nats away or more.
"""

from collections.abc import Mapping
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.metrics import finite

DIFFERENCE, RATIO = "sampling/sampling_logp_difference", "sampling/importance_sampling_ratio"
DISCARDED = "sampling/discarded_share"
IMPOSSIBLE_FIRST = "sampling/impossible_first_token_share"
COUNT = "completions_before_any_was_left_out"  # in a batch of trl's

# A mean ratio of 0.85, with what is discarded above 3, means that at most 5 % were discarded.
MOST_DISCARDED = 0.10  # of a batch's completions
MOST_IMPOSSIBLE_FIRST = 0.05  # of a batch's completions
IMPOSSIBLE_NATS = 20.0  # the policy gives the token e^-20 of what the engine gave it
LEAST_RATIO = 0.5  # of a batch's mean importance ratio, which is 1 where both agree
NO_WEIGHT = 0.01  # a completion whose ratio is lower teaches nothing

LOST_BATCHES = 2  # so many ...
WITHIN_STEPS = 100  # ... in so many steps are no accident

JUDGED = (DISCARDED, IMPOSSIBLE_FIRST, f"{RATIO}/mean", f"{DIFFERENCE}/max")
"""What a batch is judged by; an engine that is the policy logs none of it."""


class LostBatchesError(UserError):
    """The engine that draws the completions and the policy disagree again and again."""


def why_lost(row: Mapping[str, Any]) -> str | None:
    """Why the batch of a logged step was lost; None for a sound one.

    Args:
        row: a step's metrics, ours or trl's; what is not logged is not judged.
    """
    discarded, impossible, ratio, farthest = (finite(row.get(name)) for name in JUDGED)
    reasons = []
    if impossible is not None and impossible > MOST_IMPOSSIBLE_FIRST:
        reasons.append(f"{impossible:.0%} begin with a token that the policy finds impossible")
    if discarded is not None and discarded > MOST_DISCARDED:
        reasons.append(f"{discarded:.0%} of the completions were discarded")
    if not reasons and ratio is not None and ratio < LEAST_RATIO:
        reasons.append(f"the mean importance ratio is {ratio:.2g} instead of 1")
    # one token alone is no lost batch where the shares of the completions are known
    are_counted = discarded is not None and impossible is not None
    if not reasons and not are_counted and farthest is not None and farthest > IMPOSSIBLE_NATS:
        reasons.append(f"the policy finds a token impossible that was drawn ({farthest:.0f} nats)")
    return " and ".join(reasons) or None


class LostBatchGuard:
    """Counts lost batches and stops a run that has too many."""

    def __init__(self) -> None:
        self._steps: list[int] = []

    def note(self, step: int, reason: str) -> None:
        """Remember a lost batch.

        Raises:
            LostBatchesError: it is not the only one lately.
        """
        self._steps = [before for before in self._steps if before > step - WITHIN_STEPS] + [step]
        if len(self._steps) >= LOST_BATCHES:
            listed = ", ".join(map(str, self._steps))
            raise LostBatchesError(
                f"{len(self._steps)} batches within {WITHIN_STEPS} steps were lost (steps {listed};"
                f" the last: {reason}): what draws the completions and what learns from them "
                "disagree, so these steps teach nothing. Train as a new RUN with rollout=generate, "
                "and please report this; watch.stop_on_lost_batches=false continues anyway"
            )
