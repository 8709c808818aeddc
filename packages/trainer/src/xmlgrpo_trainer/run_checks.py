"""Is a run healthy?  Each check reads the logged metrics and says one thing in words.

Thresholds marked AXOLOTL are those of axolotl's docs/training_stability.qmd ("Key Metrics for RL
(GRPO)", github.com/axolotl-ai-cloud/axolotl, commit 674650da); the others are judgement.
"""

import math
from collections.abc import Callable, Sequence
from statistics import fmean, median

from xmlgrpo_trainer.findings import Finding
from xmlgrpo_trainer.metrics_log import MetricsLog

AXOLOTL = "axolotl, docs/training_stability.qmd"
JUDGEMENT = "judgement"

WINDOW = 20  # logged steps that "now" and "at first" are means of
LEAST_STEPS = 5  # fewer say nothing
PATIENCE_STEPS = 20  # a reward that is still 0 then is dead: AXOLOTL
MOST_ZERO_STD = 0.8  # AXOLOTL
MOST_CLIPPED, SOME_CLIPPED = 0.8, 0.3  # AXOLOTL: red flag, end of the healthy range
LEAST_ENTROPY = 0.01  # AXOLOTL, nats a token
MOST_GRAD_NORM = 10.0  # AXOLOTL
SPIKE_TIMES = 20.0  # over the median: judgement
MOST_KL = 2.0  # AXOLOTL
ACCURACY_DROP = 0.05  # below the best: judgement; 100 problems have a standard error of 0.05
SATURATED = 0.95  # judgement
NO_GAIN = 0.02  # judgement


def check_run(log: MetricsLog) -> list[Finding]:
    """Every check that the logged metrics allow, in the order of a reader's questions."""
    found = _reading(log)
    steps = len(log.series("reward"))
    if steps < LEAST_STEPS:
        few = f"{steps} step(s) with a reward are logged; {LEAST_STEPS} are needed to judge"
        return [*found, Finding("note", "too early", few)]
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


def dead_reward(log: MetricsLog) -> list[Finding]:
    """Rewards that have never paid anything, and the one that teaches the task above all."""
    silent, steps = [], 0
    for name in sorted(log.names()):
        if not (name.startswith("rewards/") and name.endswith("/mean")):
            continue
        values = log.series(name)
        if len(values) >= PATIENCE_STEPS and not any(value for _, value in values):
            silent.append(name.removeprefix("rewards/").removesuffix("/mean"))
            steps = max(steps, len(values))
    total = log.series("reward")
    if len(total) >= PATIENCE_STEPS and not any(value for _, value in total):
        return [
            Finding(
                "bad",
                "reward",
                f"0 at every one of {len(total)} steps (expected more than 0 within "
                f"{PATIENCE_STEPS})",
                "nothing can be learned: read completions/, run xmlgrpo-validate, and look whether "
                "the model can do the task at all",
                AXOLOTL,
            )
        ]
    if silent:
        return [
            Finding(
                "warning",
                "reward",
                f"{', '.join(silent)} paid nothing in {steps} steps (expected within "
                f"{PATIENCE_STEPS})",
                "what is never paid is not learned: take it out, make it easier to earn, or start "
                "from a model that sometimes earns it",
                AXOLOTL,
            )
        ]
    first, now = _ends(total)
    return [Finding("ok", "reward", f"{first:.3g} at first, {now:.3g} now")]


def zero_std(log: MetricsLog) -> list[Finding]:
    """Groups whose completions all earn the same teach nothing: their advantages are 0."""
    values = log.series("frac_reward_zero_std")
    if not values:
        return []
    share = _now(values)
    said = f"{share:.0%} of the groups have no spread in reward now (at most {MOST_ZERO_STD:.0%})"
    if share <= MOST_ZERO_STD:
        return [Finding("ok", "signal", said, grounds=AXOLOTL)]
    right = log.series("sampled/lenient")
    if right and _now(right) > SATURATED:
        return [
            Finding(
                "note",
                "signal",
                f"{said}, and {_now(right):.0%} of the replies are right: the problems are solved",
                "stop here, or train on harder problems",
                AXOLOTL,
            )
        ]
    return [
        Finding(
            "bad",
            "signal",
            said,
            "most of each step is wasted: raise grpo.num_generations or grpo.temperature, or take "
            "problems that the model sometimes solves",
            AXOLOTL,
        )
    ]


def clipped(log: MetricsLog) -> list[Finding]:
    """Replies that reach the length limit have no answer, so they earn nothing."""
    values = log.series("completions/clipped_ratio")
    if not values:
        return []
    share = _now(values)
    said = f"{share:.0%} of the replies are cut at the length limit now"
    if share > MOST_CLIPPED:
        level, bound = "bad", MOST_CLIPPED
    elif share > SOME_CLIPPED:
        level, bound = "warning", SOME_CLIPPED
    else:
        said += f" (at most {SOME_CLIPPED:.0%})"
        return [Finding("ok", "length", said, grounds=AXOLOTL)]
    return [
        Finding(
            "bad" if level == "bad" else "warning",
            "length",
            f"{said} (at most {bound:.0%})",
            "raise grpo.max_completion_length; if replies run on without end, look whether the "
            "model stops at <end_of_turn>",
            AXOLOTL,
        )
    ]


def entropy(log: MetricsLog) -> list[Finding]:
    """A policy without entropy says the same thing every time and explores no more."""
    values = log.series("entropy")
    if not values:
        return []
    first, now = _ends(values)
    said = f"entropy {first:.3g} at first, {now:.3g} now (at least {LEAST_ENTROPY:g} nats a token)"
    if now >= LEAST_ENTROPY:
        return [Finding("ok", "entropy", said, grounds=AXOLOTL)]
    return [
        Finding(
            "bad",
            "entropy",
            said,
            "the policy has collapsed: go back to an earlier adapter, lower grpo.learning_rate, "
            "raise grpo.temperature, or set grpo.beta above 0",
            AXOLOTL,
        )
    ]


def held_out(log: MetricsLog) -> list[Finding]:
    """Reward that rises while held-out accuracy falls is reward that is gamed."""
    for name in ("validation/strict_accuracy", "validation/lenient_accuracy"):
        values = log.series(name)
        if len(values) < 2:
            continue
        short = name.removeprefix("validation/").replace("_", " ")
        (best_step, best), (_, now) = max(values, key=lambda pair: pair[1]), values[-1]
        rewards = log.series("reward")
        before = [value for step, value in rewards if step <= best_step] or [rewards[0][1]]
        gain = _now(rewards) - fmean(before[-WINDOW:])
        said = (
            f"{short} {best:.1%} at step {best_step}, {now:.1%} now (at most {ACCURACY_DROP:.0%} "
            f"below the best); reward {gain:+.3g} since"
        )
        if best - now <= ACCURACY_DROP:
            continue
        if gain > 0:
            return [
                Finding(
                    "bad",
                    "held-out",
                    said,
                    "the reward is being gamed: read completions/ for how, close the hole in the "
                    "reward, and use the kept best adapter meanwhile",
                    JUDGEMENT,
                )
            ]
        return [
            Finding(
                "warning",
                "held-out",
                said,
                "training makes it worse: lower grpo.learning_rate; holdout.patience stops such a "
                "run early",
                JUDGEMENT,
            )
        ]
    values = log.series("validation/strict_accuracy")
    if len(values) < 2:
        return [
            Finding(
                "note",
                "held-out",
                "fewer than two validations are logged, so a gamed reward would not show",
                "set holdout.validation_rows above 0 and holdout.every to a fraction of the steps",
            )
        ]
    first, now = values[0][1], values[-1][1]
    return [Finding("ok", "held-out", f"strict accuracy {first:.1%} at first, {now:.1%} now")]


def grad_norm(log: MetricsLog) -> list[Finding]:
    """Gradients that are not finite end a run; spikes announce it."""
    lost = log.not_finite("grad_norm")
    if lost:
        return [
            Finding(
                "bad",
                "gradient",
                f"grad_norm is not a finite number at step {lost[0]}"
                + (f" and {len(lost) - 1} more" if len(lost) > 1 else ""),
                "the weights are lost from there on: start a new run with a lower "
                "grpo.learning_rate or with model.dtype=float32",
            )
        ]
    values = log.series("grad_norm")
    if not values:
        return []
    middle = median(value for _, value in values)
    step, largest = max(values, key=lambda pair: pair[1])
    said = f"grad_norm {middle:.3g} in the middle, at most {largest:.3g} (step {step})"
    if largest > MOST_GRAD_NORM:
        return [_unstable(f"{said}; stable is at most {MOST_GRAD_NORM:g}", AXOLOTL)]
    if middle > 0 and largest > SPIKE_TIMES * middle and largest > 1:
        return [_unstable(f"{said}: a spike of {largest / middle:.0f} times", JUDGEMENT)]
    return [Finding("ok", "gradient", said, grounds=AXOLOTL)]


def _unstable(said: str, grounds: str) -> Finding:
    return Finding(
        "warning",
        "gradient",
        said,
        "lower grpo.learning_rate or grpo.max_grad_norm, or raise grpo.gradient_accumulation_steps",
        grounds,
    )


def form_without_sense(log: MetricsLog) -> list[Finding]:
    """The format is learned first; when nothing follows, only the format was learned."""
    form, right = log.series("sampled/strict_format"), log.series("sampled/lenient")
    if not form or len(right) < 2 * LEAST_STEPS:
        return []
    first, now = _ends(right)
    if _now(form) < SATURATED or now > SATURATED or now - first >= NO_GAIN:
        return []
    return [
        Finding(
            "warning",
            "correctness",
            f"{_now(form):.0%} of the replies are in the format, but right answers went from "
            f"{first:.1%} to {now:.1%} (less than {NO_GAIN:.0%} gained)",
            "only the format was learned: raise the weight of correctness_reward_func, lower the "
            "format rewards', or train longer",
            JUDGEMENT,
        )
    ]


def kl(log: MetricsLog) -> list[Finding]:
    """How far the policy has gone from where it started; logged with grpo.beta above 0."""
    values = log.series("kl")
    if not values or _now(values) <= MOST_KL:
        return []
    return [
        Finding(
            "warning",
            "kl",
            f"{_now(values):.3g} nats from the reference now (at most {MOST_KL:g})",
            "lower grpo.learning_rate or raise grpo.beta",
            AXOLOTL,
        )
    ]


CHECKS: tuple[Callable[[MetricsLog], list[Finding]], ...] = (
    dead_reward,
    zero_std,
    clipped,
    entropy,
    held_out,
    grad_norm,
    form_without_sense,
    kl,
)


def _now(values: Sequence[tuple[int, float]]) -> float:
    return fmean(value for _, value in values[-WINDOW:])


def _ends(values: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Means at first and now; of a short series, of its halves, so that they never overlap."""
    width = max(1, min(WINDOW, math.floor(len(values) / 2)))
    return (
        fmean(value for _, value in values[:width]),
        fmean(value for _, value in values[-width:]),
    )
