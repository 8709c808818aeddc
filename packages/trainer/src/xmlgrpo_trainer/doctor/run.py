"""Is a run healthy?  Readings of its logged metrics, and one table of their thresholds.

AXOLOTL is docs/training_stability.qmd, "Key Metrics for RL (GRPO)", of
github.com/axolotl-ai-cloud/axolotl, commit 674650da.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from xmlgrpo_run.metrics import MetricsLog
from xmlgrpo_trainer.doctor.finding import JUDGEMENT, Finding, Level
from xmlgrpo_trainer.grpo.lost_batches import JUDGED, why_lost
from xmlgrpo_trainer.problems.pass_rates import MIXED, TAUGHT

AXOLOTL = "axolotl, docs/training_stability.qmd"
LEAST_STEPS = 5  # fewer say nothing of means and trends
WINDOW = 20  # logged steps that "now" and "at first" are means of, since single steps are noise
PATIENCE_STEPS = 20  # a reward that is still 0 then is dead: AXOLOTL
SATURATED = 0.95  # judgement: a share that can rise no more
LEAST_LOOKS = 3  # at validation problems, for a trend: judgement
SHARPER = 4 / 3  # times as many right: judgement
LEAST_ENTROPY = 0.1  # nats, below which a rise means nothing: judgement
LEAST_HALF = 5  # logged steps at either end of a comparison: judgement
SHOWN_STEPS = 12
WASTED = (
    "most of each step is wasted, since their advantages are 0: draw problems by how often they "
    "are solved (make passrate, sampling.band, sampling.draw), or raise grpo.num_generations"
)
CALMER = "lower grpo.learning_rate or grpo.max_grad_norm, or raise grpo.gradient_accumulation_steps"
OF_SINGLE_STEPS = ("batches", "gradient")  # they end a run in its first steps, too

# a number to compare, and what it is in words; None where the run does not say
Reading = Callable[[MetricsLog], tuple[float, str] | None]


def now(name: str, words: str) -> Reading:
    """The mean of a metric's newest values."""

    def read(log: MetricsLog) -> tuple[float, str] | None:
        values = log.series(name)
        if not values:
            return None
        value = _now(values)
        return value, words.format(value)

    return read


def steps_without_reward(log: MetricsLog) -> tuple[float, str]:
    """How long the whole reward has been 0, if it has never been anything else."""
    values = log.series("reward")
    if any(value for _, value in values):
        first, last = _ends(values)
        return 0, f"{first:.3g} at first, {last:.3g} now"
    return len(values), f"0 at every one of {len(values)} steps"


def steps_without_one(log: MetricsLog) -> tuple[float, str] | None:
    """The same of each reward function."""
    unpaid = {
        name.removeprefix("rewards/").removesuffix("/mean"): len(log.series(name))
        for name in sorted(log.names())
        if name.startswith("rewards/") and name.endswith("/mean")
        if not any(value for _, value in log.series(name))
    }
    unpaid = {name: steps for name, steps in unpaid.items() if steps >= PATIENCE_STEPS}
    if not unpaid:
        return None
    steps = max(unpaid.values())
    return steps, f"{', '.join(unpaid)} paid nothing in {steps} steps"


def solved_groups(log: MetricsLog) -> tuple[float, str] | None:
    """Groups without spread in reward since every reply is right."""
    right, spread = log.series("sampled/lenient"), log.series("frac_reward_zero_std")
    if not right or not spread or _now(right) <= SATURATED:
        return None
    share = _now(spread)
    words = f"{share:.0%} of the groups have no spread in reward now, and {_now(right):.0%}"
    return share, f"{words} of the replies are right: these are solved"


def groups_alike(log: MetricsLog) -> tuple[float, str] | None:
    """Drawn groups that are all right or all wrong; `scale_rewards: batch` hides them from trl."""
    mixed, taught = log.series(MIXED), log.series(TAUGHT)
    if not mixed or not taught:
        return None
    words = f"{1 - _now(mixed):.0%} of the drawn groups are all right or all wrong now, and"
    return 1 - _now(mixed), f"{words} {_now(taught):.0%} of the drawn tokens taught anything"


def known_by_heart(log: MetricsLog) -> tuple[float, str] | None:
    """How much more often the problems that are trained on are solved than others."""
    own, others = log.series("sampled/strict"), log.series("validation/strict_accuracy")
    if not own or len(others) < 2:
        return None
    share, (step, other) = _now(own), others[-1]
    words = f"{share:.0%} of the replies are right on the problems trained on, {other:.1%} of those"
    return share - other, f"{words} to validation problems at step {step}"


def sharpening(log: MetricsLog) -> tuple[float, str] | None:
    """What became of greedy accuracy where sampled accuracy has risen by a third or more."""
    right, greedy = log.series("sampled/strict"), log.series("validation/strict_accuracy")
    if len(right) < 2 * LEAST_HALF or len(greedy) < LEAST_LOOKS or not greedy[0][1]:
        return None
    (first, last), before = _ends(right), greedy[0][1]
    if last < SHARPER * first or last > SATURATED:
        return None
    now_greedy = fmean(value for _, value in greedy[-2:])
    words = f"sampled replies went from {first:.1%} to {last:.1%} right, greedy ones to validation"
    return now_greedy / before, f"{words} problems from {before:.1%} to {now_greedy:.1%}"


def fallen(log: MetricsLog) -> tuple[float, str] | None:
    """What is left of greedy accuracy at each of the last two looks."""
    values = log.series("validation/strict_accuracy")
    if len(values) < LEAST_LOOKS or not values[0][1]:
        return None
    better = max(value for _, value in values[-2:])
    words = f"validation accuracy was {values[0][1]:.1%} at first, and at most {better:.1%} at the"
    return better / values[0][1], f"{words} last two looks"


def one_answer(log: MetricsLog) -> tuple[float, str] | None:
    """How much more often replies to different problems agree than at first."""
    values = log.series("sampled/one_answer")
    if len(values) < 2 * LEAST_HALF:
        return None
    first, last = _ends(values)
    words = f"two replies to different problems agree in {last:.1%} of the pairs now"
    return last - first, f"{words}, {first:.1%} at first"


def restless(log: MetricsLog) -> tuple[float, str] | None:
    """How entropy has risen where right answers have not."""
    entropy, right = log.series("entropy"), log.series("sampled/strict")
    if len(entropy) < 2 * LEAST_HALF or not right or _now(entropy) < LEAST_ENTROPY:
        return None
    (before, after), (first, last) = _ends(entropy), _ends(right)
    if last > first or not before:
        return None
    words = f"entropy went from {before:.3g} to {after:.3g} nats per token, and right answers from"
    return after / before, f"{words} {first:.1%} to {last:.1%}"


def lost_batches(log: MetricsLog) -> tuple[float, str] | None:
    """Batches that teach nothing, since what drew them is not the policy."""
    judged = {step for name in JUDGED for step, _ in log.series(name)}
    lost = [(step, why) for step in sorted(judged) if (why := why_lost(log.rows[step]))]
    if not lost:
        return (0, f"none of {len(judged)} was lost") if judged else None
    steps = ", ".join(str(step) for step, _ in lost[:SHOWN_STEPS])
    more = ", …" if len(lost) > SHOWN_STEPS else ""
    words = f"{len(lost)} of {len(judged)} were lost (steps {steps}{more}): {lost[-1][1]}"
    return len(lost), words


def accuracy_drop(*, gamed: bool) -> Reading:
    """How far validation accuracy is below its best, with a reward that has risen since, or not."""

    def read(log: MetricsLog) -> tuple[float, str] | None:
        drops = [drop for name in ("strict", "lenient") if (drop := _drop(log, name))]
        of_this_kind = [(drop, words) for drop, gain, words in drops if (gain > 0) is gamed]
        return max(of_this_kind, default=None)

    return read


def _drop(log: MetricsLog, name: str) -> tuple[float, float, str] | None:
    values, rewards = log.series(f"validation/{name}_accuracy"), log.series("reward")
    if len(values) < 2 or not rewards:
        return None
    (best_step, best), (_, last) = max(values, key=lambda pair: pair[1]), values[-1]
    before = [pair for pair in rewards if pair[0] <= best_step] or rewards[:1]
    gain = _now(rewards) - _now(before)
    words = f"{name} accuracy {best:.1%} at step {best_step}, {last:.1%} now; reward {gain:+.3g}"
    return best - last, gain, f"{words} since"


def validations(log: MetricsLog) -> tuple[float, str]:
    """How often the validation problems were asked."""
    number = len(log.series("validation/strict_accuracy"))
    return number, f"{number} validation(s) are logged"


def lost_gradients(log: MetricsLog) -> tuple[float, str] | None:
    """Steps whose gradient is not finite."""
    lost = log.not_finite("grad_norm")
    if not lost:
        return None
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    return len(lost), f"grad_norm is not a finite number at step {lost[0]}{more}"


def largest_gradient(log: MetricsLog) -> tuple[float, str] | None:
    """The largest gradient."""
    values = log.series("grad_norm")
    if not values:
        return None
    step, largest = max(values, key=lambda pair: pair[1])
    middle = median(value for _, value in values)
    return largest, f"grad_norm {middle:.3g} in the middle, at most {largest:.3g} (step {step})"


def gradient_spike(log: MetricsLog) -> tuple[float, str] | None:
    """The largest gradient over the median one; None where it is small all the same."""
    values = [value for _, value in log.series("grad_norm")]
    if not values or max(values) <= 1 or not median(values):
        return None
    times = max(values) / median(values)
    return times, f"the largest grad_norm is {times:.0f} times the median one"


def gain_of_right_answers(log: MetricsLog) -> tuple[float, str] | None:
    """What was gained in right answers where the format is learned and there is room for more."""
    form, right = log.series("sampled/strict_format"), log.series("sampled/lenient")
    if not form or len(right) < 2 * LEAST_HALF or _now(form) < SATURATED:
        return None
    first, last = _ends(right)
    if last > SATURATED:
        return None
    words = f"{_now(form):.0%} of the replies are in the format, and right answers went from"
    return last - first, f"{words} {first:.1%} to {last:.1%}"


def _now(values: Sequence[tuple[int, float]]) -> float:
    return fmean(value for _, value in values[-WINDOW:])


def _ends(values: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Means at first and now; of a short series, of its halves, so that they never overlap."""
    width = max(1, min(WINDOW, len(values) // 2))
    return fmean(value for _, value in values[:width]), fmean(value for _, value in values[-width:])


@dataclass(frozen=True, slots=True)
class Threshold:
    """The bounds of one reading, and what to do beyond them."""

    what: str  # the subject, of which the first threshold that does not hold is shown
    read: Reading
    bounds: dict[Level, float]  # the worst level first
    advice: str
    bound: str = "at most {:g}"  # in words, the most or the least
    grounds: str = AXOLOTL  # where the bounds are from

    def judge(self, value: float, words: str) -> Finding:
        """The finding that a reading makes."""
        is_least = self.bound.startswith("at least")
        for level, bound in self.bounds.items():
            if value < bound if is_least else value > bound:
                text = f"{words} ({self.bound.format(bound)})"
                return Finding(level, self.what, text, self.advice, self.grounds)
        return Finding("ok", self.what, f"{words} ({self.bound.format(bound)})", "", self.grounds)


# in the order of a reader's questions
THRESHOLDS = (
    Threshold(
        "reward",
        steps_without_reward,
        {"bad": PATIENCE_STEPS - 1},
        "nothing can be learned: read completions/, run xmlgrpo-validate, and look whether the "
        "model can do the task at all",
        "at most {:g} steps without any",
    ),
    Threshold(
        "reward",
        steps_without_one,
        {"warning": PATIENCE_STEPS - 1},
        "what is never paid is not learned: take it out, make it easier to earn, or start from a "
        "model that sometimes earns it",
    ),
    Threshold(
        "signal",
        solved_groups,
        {"note": 0.8},
        "stop here, or train on harder problems",
        "at most {:.0%}",
    ),
    Threshold(
        "signal",
        now("frac_reward_zero_std", "{:.0%} of the groups have no spread in reward now"),
        {"bad": 0.8, "warning": 0.6},
        WASTED,
        "at most {:.0%}",
    ),
    Threshold("signal", groups_alike, {"bad": 0.8, "warning": 0.6}, WASTED, "at most {:.0%}"),
    Threshold(
        "batches",
        lost_batches,
        {"bad": 1, "warning": 0},
        "what draws the completions and what learns from them disagree: train as a new RUN with "
        "rollout=generate, and please report it",
        grounds=JUDGEMENT,
    ),
    Threshold(
        "length",
        now("completions/clipped_ratio", "{:.0%} of the replies are cut at the length limit now"),
        {"bad": 0.8, "warning": 0.3},
        "raise grpo.max_completion_length; if replies run on without end, look whether the model "
        "stops at the end of its turn (`<end_of_turn>`, `<|im_end|>`, `<|eot_id|>`)",
        "at most {:.0%}",
    ),
    Threshold(
        "entropy",
        now("entropy", "entropy {:.3g} nats per token now"),
        {"bad": 0.01},
        "the policy says the same thing every time: go back to an earlier adapter, lower "
        "grpo.learning_rate, raise grpo.temperature, or set grpo.beta above 0",
        "at least {:g}",
    ),
    Threshold(
        "entropy",
        restless,
        {"warning": 1.4},
        "the policy is getting lost: stop, and begin again from the best adapter with a fraction "
        "of grpo.learning_rate",
        "at most {:g} times",
        JUDGEMENT,
    ),
    Threshold(
        "answers",
        one_answer,
        {"bad": 0.15, "warning": 0.05},
        "the policy is on its way to one answer to everything: stop, go back to the best adapter, "
        "and lower grpo.learning_rate",
        "at most {:.0%} more",
        JUDGEMENT,
    ),
    Threshold(
        "held-out",
        validations,
        {"note": 2},
        "set holdout.validation_rows above 0 and holdout.every to a fraction of the steps",
        "at least {:g} to see a gamed reward",
        JUDGEMENT,
    ),
    Threshold(
        "held-out",
        fallen,
        {"bad": 0.7},
        "training destroys what the model could do: stop, use the kept best adapter, and begin "
        "again with a fraction of grpo.learning_rate",
        "at least {:g} of the first",
        JUDGEMENT,
    ),
    Threshold(
        "held-out",
        accuracy_drop(gamed=True),
        {"bad": 0.05},  # 100 problems have a standard error of 0.05
        "the reward is being gamed: read completions/ for how, close the hole in the reward, and "
        "use the kept best adapter meanwhile",
        "at most {:.0%} below the best",
        JUDGEMENT,
    ),
    Threshold(
        "held-out",
        accuracy_drop(gamed=False),
        {"warning": 0.05},
        "training makes it worse: lower grpo.learning_rate; holdout.patience stops such a run "
        "early",
        "at most {:.0%} below the best",
        JUDGEMENT,
    ),
    Threshold(
        "held-out",
        known_by_heart,
        {"warning": 0.5},
        "they are learnt by heart, which teaches little more: train on more problems, and draw "
        "those that are not solved yet (sampling.band)",
        "at most {:.0%} more",
        JUDGEMENT,
    ),
    Threshold(
        "held-out",
        sharpening,
        {"note": 1.15},
        "the policy is surer of what it knew, no better: more of the same steps will not raise "
        "greedy accuracy; other problems or a better base may",
        "at least {:g} times as many",
        JUDGEMENT,
    ),
    Threshold(
        "gradient",
        lost_gradients,
        {"bad": 0},
        "the weights are lost from there on: start a new run with a lower grpo.learning_rate or "
        "with model.dtype=float32",
    ),
    Threshold("gradient", largest_gradient, {"warning": 10}, CALMER),
    Threshold("gradient", gradient_spike, {"warning": 20}, CALMER, grounds=JUDGEMENT),
    Threshold(
        "correctness",
        gain_of_right_answers,
        {"warning": 0.02},
        "only the format was learned: raise the weight of correctness_reward_func, lower the "
        "format rewards', or train longer",
        "at least {:.0%} more",
        JUDGEMENT,
    ),
    Threshold(
        "kl",
        now("kl", "{:.3g} nats from the reference now"),
        {"warning": 2},
        "lower grpo.learning_rate or raise grpo.beta",
    ),
)


def check_run(log: MetricsLog) -> Iterator[Finding]:
    """Every check that the logged metrics allow, in the order of a reader's questions."""
    if log.rows:
        yield Finding("note", "steps", f"{len(log.rows)} logged, the last is {max(log.rows)}")
    if log.broken_lines:
        places = ", ".join(map(str, log.broken_lines[:5]))
        yield Finding(
            "warning",
            "metrics.jsonl",
            f"{len(log.broken_lines)} line(s) inside cannot be read ({places})",
            "they are left out here; was the disk full, or did two processes write at once?",
        )
    findings = [_finding(what, log) for what in dict.fromkeys(one.what for one in THRESHOLDS)]
    steps = len(log.series("reward"))
    if steps < LEAST_STEPS:
        few = f"{steps} step(s) with a reward are logged; {LEAST_STEPS} are needed to judge"
        yield Finding("note", "too early", few)
        findings = [
            one for one in findings if one and one.what in OF_SINGLE_STEPS and one.level == "bad"
        ]
    yield from filter(None, findings)


def _finding(what: str, log: MetricsLog) -> Finding | None:
    """The first of a subject's thresholds that does not hold, else that the last one does."""
    found = None
    for threshold in THRESHOLDS:
        reading = threshold.read(log) if threshold.what == what else None
        if reading is None:
            continue
        found = threshold.judge(*reading)
        if found.level != "ok":
            break
    return found
