"""Is a run healthy?  Each check reads the logged metrics and says one thing in words."""

from collections.abc import Callable

from xmlgrpo_run.metrics import MetricsLog
from xmlgrpo_trainer.doctor.finding import Finding
from xmlgrpo_trainer.doctor.policy import entropy, grad_norm, kl, lost_batches
from xmlgrpo_trainer.doctor.rewards import (
    clipped,
    dead_reward,
    form_without_sense,
    held_out,
    zero_std,
)

LEAST_STEPS = 5  # fewer say nothing of means and trends

CHECKS: tuple[Callable[[MetricsLog], list[Finding]], ...] = (
    dead_reward,
    zero_std,
    lost_batches,
    clipped,
    entropy,
    held_out,
    grad_norm,
    form_without_sense,
    kl,
)

OF_SINGLE_STEPS = (lost_batches, grad_norm)  # they end a run, in its first steps, too


def check_run(log: MetricsLog) -> list[Finding]:
    """Every check that the logged metrics allow, in the order of a reader's questions."""
    found = _reading(log)
    steps = len(log.series("reward"))
    if steps < LEAST_STEPS:
        few = f"{steps} step(s) with a reward are logged; {LEAST_STEPS} are needed to judge"
        ended = [one for check in OF_SINGLE_STEPS for one in check(log) if one.level == "bad"]
        return [*found, Finding("note", "too early", few), *ended]
    for check in CHECKS:
        found += check(log)
    return found


def _reading(log: MetricsLog) -> list[Finding]:
    found = []
    if log.rows:
        last = max(log.rows)
        found.append(Finding("note", "steps", f"{len(log.rows)} logged, the last is {last}"))
    if log.broken_lines:
        places = ", ".join(map(str, log.broken_lines[:5]))
        found.append(
            Finding(
                "warning",
                "metrics.jsonl",
                f"{len(log.broken_lines)} line(s) in its midst cannot be read ({places})",
                "they are left out here; was the disk full, or did two processes write at once?",
            )
        )
    return found
