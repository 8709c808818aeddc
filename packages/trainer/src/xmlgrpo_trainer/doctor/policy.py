"""Is the policy itself in order?  Checks of entropy, gradients and distance from the start.

AXOLOTL is docs/training_stability.qmd, "Key Metrics for RL (GRPO)", of
github.com/axolotl-ai-cloud/axolotl, commit 674650da.
"""

from statistics import median

from xmlgrpo_run.metrics import MetricsLog
from xmlgrpo_trainer.doctor.finding import AXOLOTL, JUDGEMENT, Finding
from xmlgrpo_trainer.doctor.means import ends_of, now_of
from xmlgrpo_trainer.grpo.lost_batches import JUDGED, why_lost

LEAST_ENTROPY = 0.01  # AXOLOTL, nats a token
MOST_GRAD_NORM = 10.0  # AXOLOTL
SPIKE_TIMES = 20.0  # over the median: judgement
MOST_KL = 2.0  # AXOLOTL
SHOWN_STEPS = 12


def entropy(log: MetricsLog) -> list[Finding]:
    """A policy without entropy says the same thing every time and explores no more."""
    values = log.series("entropy")
    if not values:
        return []
    first, now = ends_of(values)
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


def kl(log: MetricsLog) -> list[Finding]:
    """How far the policy has gone from where it started; logged with grpo.beta above 0."""
    values = log.series("kl")
    if not values or now_of(values) <= MOST_KL:
        return []
    return [
        Finding(
            "warning",
            "kl",
            f"{now_of(values):.3g} nats from the reference now (at most {MOST_KL:g})",
            "lower grpo.learning_rate or raise grpo.beta",
            AXOLOTL,
        )
    ]


def lost_batches(log: MetricsLog) -> list[Finding]:
    """Batches that teach nothing, since what drew them is not the policy."""
    judged = {step for name in JUDGED for step, _ in log.series(name)}
    if not judged:
        return []
    lost = [(step, why) for step in sorted(judged) if (why := why_lost(log.rows[step]))]
    if not lost:
        return [Finding("ok", "batches", f"none of {len(judged)} was lost", grounds=JUDGEMENT)]
    steps = ", ".join(str(step) for step, _ in lost[:SHOWN_STEPS])
    more = ", …" if len(lost) > SHOWN_STEPS else ""
    return [
        Finding(
            "bad" if len(lost) > 1 else "warning",
            "batches",
            f"{len(lost)} of {len(judged)} were lost (steps {steps}{more}): {lost[-1][1]}",
            "what draws the completions and what learns from them disagree: train as a new RUN "
            "with rollout=generate, and please report it",
            JUDGEMENT,
        )
    ]
