"""What the doctor reads out of a run's logged metrics: a number each, and what it is in words.

The signs and most of their limits are from runs on real Gemma 3 270M, of which some learned and one
collapsed (`tests/fixtures`); the other source is AXOLOTL (`doctor.run`).
"""

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import fmean, median

from xmlgrpo_run.measures.paired import Paired
from xmlgrpo_run.metrics import MetricsLog, finite

WINDOW = 20  # logged steps that "now" and "at first" are means of, since single steps are noise
PATIENCE_STEPS = 20  # a reward that is still 0 then is dead: AXOLOTL
SATURATED = 0.95  # judgement, as all below: a share that can rise no more
LEAST_LOOKS = 3  # at validation problems, for a trend
SHARPER = 4 / 3  # times as many right
LEAST_ENTROPY = 0.1  # nats, below which a rise means nothing
LEAST_HALF = 5  # logged steps at either end of a comparison
LEAST_FALL = 10  # the same, where a few easy problems at first must not look like a fall
MOST_FLIPS = 20_000  # between two looks at validation problems
SURE_P = 0.01  # of McNemar's test: one look is enough
SURE_Z = 4.0  # standard errors of independent replies; those to one problem are not
LEAST_WORKED = 0.3  # of replies at first: below it there is no habit to lose
FIRST_GRADIENTS = 50
RISEN = 1.1  # times as many right as at first are more

# a number to compare, and what it is in words; None where the run does not say
Reading = Callable[[MetricsLog], tuple[float, str] | None]


def now(name: str, words: str) -> Reading:
    """The mean of a metric's newest values."""

    def read(log: MetricsLog) -> tuple[float, str] | None:
        values = log.series(name)
        if not values:
            return None
        value = mean_now(values)
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
    if not right or not spread or mean_now(right) <= SATURATED:
        return None
    share = mean_now(spread)
    words = f"{share:.0%} of the groups have no spread in reward now, and {mean_now(right):.0%}"
    return share, f"{words} of the replies are right: these are solved"


def known_by_heart(log: MetricsLog) -> tuple[float, str] | None:
    """How much more often the problems that are trained on are solved than others."""
    own, others = log.series("sampled/strict"), log.series("validation/strict_accuracy")
    if not own or len(others) < 2:
        return None
    share, (step, other) = mean_now(own), others[-1]
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
    """What is left of greedy accuracy at the last look if it is sure, else at each of two."""
    values = log.series("validation/strict_accuracy")
    if len(values) < 2 or not values[0][1]:
        return None
    (_, first), (step, last) = values[0], values[-1]
    lost, gained = (
        _count(log.rows[step].get(f"validation/{which}")) for which in ("lost", "gained")
    )
    if lost is not None and gained is not None:
        flips = Paired(both=0, only_first=lost, only_second=gained, neither=0)
        if flips.p_value < SURE_P and lost > gained:
            words = f"validation accuracy was {first:.1%} at first and is {last:.1%} at step {step}"
            return last / first, f"{words}: {flips.only_first} problems lost, {gained:.0f} gained"
    if len(values) < LEAST_LOOKS:
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
    if len(entropy) < 2 * LEAST_FALL or not right or mean_now(entropy) < LEAST_ENTROPY:
        return None
    (before, after), (first, last) = _ends(entropy), _ends(right)
    if last > first or not before:
        return None
    words = f"entropy went from {before:.3g} to {after:.3g} nats per token, and right answers from"
    return after / before, f"{words} {first:.1%} to {last:.1%}"


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
    gain = mean_now(rewards) - mean_now(before)
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
    if not form or len(right) < 2 * WINDOW or mean_now(form) < SATURATED:
        return None
    first, last = _ends(right)
    if last > SATURATED:
        return None
    words = f"{mean_now(form):.0%} of the replies are in the format, and right answers went from"
    return last - first, f"{words} {first:.1%} to {last:.1%}"


def falling(log: MetricsLog) -> tuple[float, str] | None:
    """How many looks in a row were each below the one before, and the last below the first."""
    values = log.series("validation/strict_accuracy")
    if len(values) < LEAST_LOOKS:
        return None
    falls = 0
    while falls + 1 < len(values) and values[-falls - 1][1] < values[-falls - 2][1]:
        falls += 1
    (step, high), (_, last) = values[-falls - 1], values[-1]
    if last >= values[0][1]:
        falls = 0  # it still knows more than untrained
    words = f"validation accuracy has fallen {falls} times in a row, {high:.1%} at step {step} to"
    return falls, f"{words} {last:.1%}"


def right_left(log: MetricsLog) -> tuple[float, str] | None:
    """What is left of right answers among the sampled ones, where chance does not explain it."""
    right, counts = log.series("sampled/strict"), log.series("sampled/replies")
    if len(right) < 2 * LEAST_FALL:
        return None
    first, last = _ends(right)
    if not first or (counts and not _is_sure(first, last, _width(right) * mean_now(counts))):
        return None
    return last / first, f"right answers went from {first:.1%} of the sampled ones to {last:.1%}"


def _count(logged: object) -> int | None:
    """A number of problems; None for what no run logs: the exact test of it would take hours."""
    value = finite(logged)
    return None if value is None or not 0 <= value <= MOST_FLIPS else int(value)


def _is_sure(first: float, last: float, replies: float) -> bool:
    if not (0 <= first <= 1 and 0 <= last <= 1 and replies > 0):  # no run logs that
        return False
    error = sqrt((first * (1 - first) + last * (1 - last)) / replies)
    return first - last > SURE_Z * error


def working_left(log: MetricsLog) -> tuple[float, str] | None:
    """What is left of the habit to work a problem out, where there was one."""
    worked = log.series("sampled/worked")
    if len(worked) < 2 * LEAST_HALF:
        return None
    first, last = _ends(worked)
    if first < LEAST_WORKED:
        return None
    return last / first, f"replies with a sum written out went from {first:.0%} to {last:.0%}"


def entropy_left(log: MetricsLog) -> tuple[float, str] | None:
    """What is left of entropy where right answers have not risen for it."""
    entropy, right = log.series("entropy"), log.series("sampled/strict")
    if len(entropy) < 2 * LEAST_FALL or len(right) < 2 * LEAST_FALL:
        return None
    (before, after), (first, last) = _ends(entropy), _ends(right)
    if last > RISEN * first or before < LEAST_ENTROPY:
        return None
    words = f"entropy went from {before:.3g} to {after:.3g} nats per token, and right answers from"
    return after / before, f"{words} {first:.1%} to {last:.1%}"


def length_change(log: MetricsLog) -> tuple[float, str] | None:
    """How many times longer, or shorter, replies are, where right answers have not risen."""
    length, right = log.series("completions/mean_length"), log.series("sampled/strict")
    if len(length) < 2 * LEAST_FALL or len(right) < 2 * LEAST_FALL:
        return None
    (before, after), (first, last) = _ends(length), _ends(right)
    if last > RISEN * first or not before or not after:
        return None
    words = f"replies went from {before:.0f} to {after:.0f} tokens, and right answers from"
    return max(after / before, before / after), f"{words} {first:.1%} to {last:.1%}"


def gradient_left(log: MetricsLog) -> tuple[float, str] | None:
    """What is left of the gradient, where there is room for more right answers."""
    gradients, right = log.series("grad_norm"), log.series("sampled/lenient")
    if len(gradients) < FIRST_GRADIENTS + WINDOW or not right or mean_now(right) > SATURATED:
        return None
    usual = median(value for _, value in gradients[:FIRST_GRADIENTS])
    largest = max(value for _, value in gradients[-WINDOW:])
    words = f"grad_norm is at most {largest:.3g} in the last {WINDOW} steps, {usual:.3g} at first"
    return (largest / usual, words) if usual else None


def _width(values: Sequence[tuple[int, float]]) -> int:
    """The steps of either end of a comparison: of a short series half, so that none is in both."""
    return max(1, min(WINDOW, len(values) // 2))


def mean_now(values: Sequence[tuple[int, float]]) -> float:
    """The mean of the newest values of a series."""
    return fmean(value for _, value in values[-WINDOW:])


def _ends(values: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Means at first and now."""
    width = _width(values)
    return fmean(value for _, value in values[:width]), fmean(value for _, value in values[-width:])
