"""Does the reward teach what it should?  Checks of a run's rewards and of what they lead to.

AXOLOTL is docs/training_stability.qmd, "Key Metrics for RL (GRPO)", of
github.com/axolotl-ai-cloud/axolotl, commit 674650da.
"""

from statistics import fmean

from xmlgrpo_run.metrics import MetricsLog
from xmlgrpo_trainer.doctor.finding import AXOLOTL, JUDGEMENT, Finding
from xmlgrpo_trainer.doctor.means import WINDOW, ends_of, now_of

PATIENCE_STEPS = 20  # a reward that is still 0 then is dead: AXOLOTL
MOST_ZERO_STD = 0.8  # AXOLOTL
MOST_CLIPPED, SOME_CLIPPED = 0.8, 0.3  # AXOLOTL: red flag, end of the healthy range
ACCURACY_DROP = 0.05  # below the best: judgement; 100 problems have a standard error of 0.05
SATURATED = 0.95  # judgement
NO_GAIN = 0.02  # judgement
LEAST_HALF = 5  # logged steps at either end of a comparison: judgement


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
    first, now = ends_of(total)
    return [Finding("ok", "reward", f"{first:.3g} at first, {now:.3g} now")]


def zero_std(log: MetricsLog) -> list[Finding]:
    """Groups whose completions all earn the same teach nothing: their advantages are 0."""
    values = log.series("frac_reward_zero_std")
    if not values:
        return []
    share = now_of(values)
    said = f"{share:.0%} of the groups have no spread in reward now (at most {MOST_ZERO_STD:.0%})"
    if share <= MOST_ZERO_STD:
        return [Finding("ok", "signal", said, grounds=AXOLOTL)]
    right = log.series("sampled/lenient")
    if right and now_of(right) > SATURATED:
        return [
            Finding(
                "note",
                "signal",
                f"{said}, and {now_of(right):.0%} of the replies are right: these are solved",
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
    share = now_of(values)
    said = f"{share:.0%} of the replies are cut at the length limit now"
    if share <= SOME_CLIPPED:
        return [Finding("ok", "length", f"{said} (at most {SOME_CLIPPED:.0%})", grounds=AXOLOTL)]
    is_bad = share > MOST_CLIPPED
    bound = MOST_CLIPPED if is_bad else SOME_CLIPPED
    return [
        Finding(
            "bad" if is_bad else "warning",
            "length",
            f"{said} (at most {bound:.0%})",
            "raise grpo.max_completion_length; if replies run on without end, look whether the "
            "model stops at <end_of_turn>",
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
        gain = now_of(rewards) - fmean(before[-WINDOW:])
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


def form_without_sense(log: MetricsLog) -> list[Finding]:
    """The format is learned first; when nothing follows, only the format was learned."""
    form, right = log.series("sampled/strict_format"), log.series("sampled/lenient")
    if not form or len(right) < 2 * LEAST_HALF:
        return []
    first, now = ends_of(right)
    if now_of(form) < SATURATED or now > SATURATED or now - first >= NO_GAIN:
        return []
    return [
        Finding(
            "warning",
            "correctness",
            f"{now_of(form):.0%} of the replies are in the format, but right answers went from "
            f"{first:.1%} to {now:.1%} (less than {NO_GAIN:.0%} gained)",
            "only the format was learned: raise the weight of correctness_reward_func, lower the "
            "format rewards', or train longer",
            JUDGEMENT,
        )
    ]
