"""Is a run healthy?  One table of thresholds for what its logged metrics say.

AXOLOTL is docs/training_stability.qmd, "Key Metrics for RL (GRPO)", of
github.com/axolotl-ai-cloud/axolotl, commit 674650da.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from xmlgrpo_run.metrics import MetricsLog
from xmlgrpo_trainer.doctor.finding import JUDGEMENT, Finding, Level
from xmlgrpo_trainer.doctor.readings import (
    PATIENCE_STEPS,
    Reading,
    accuracy_drop,
    entropy_left,
    fallen,
    falling,
    gain_of_right_answers,
    gradient_left,
    gradient_spike,
    known_by_heart,
    largest_gradient,
    length_change,
    lost_gradients,
    mean_now,
    now,
    one_answer,
    restless,
    right_left,
    sharpening,
    solved_groups,
    steps_without_one,
    steps_without_reward,
    validations,
    working_left,
)
from xmlgrpo_trainer.grpo.lost_batches import JUDGED, why_lost
from xmlgrpo_trainer.problems.pass_rates import MIXED, TAUGHT

AXOLOTL = "axolotl, docs/training_stability.qmd"
SHOWN_STEPS = 12
LEAST_STEPS = 5  # fewer say nothing of means and trends
WASTED = (
    "most of each step is wasted, since their advantages are 0: draw problems by how often they "
    "are solved (make passrate, sampling.band, sampling.draw), or raise grpo.num_generations"
)
CALMER = "lower grpo.learning_rate or grpo.max_grad_norm, or raise grpo.gradient_accumulation_steps"
OF_SINGLE_STEPS = ("batches", "gradient")  # they end a run in its first steps, too


def groups_alike(log: MetricsLog) -> tuple[float, str] | None:
    """Drawn groups that are all right or all wrong; `scale_rewards: batch` hides them from trl."""
    mixed, taught = log.series(MIXED), log.series(TAUGHT)
    if not mixed or not taught:
        return None
    alike = 1 - mean_now(mixed)
    words = f"{alike:.0%} of the drawn groups are all right or all wrong now, and"
    return alike, f"{words} {mean_now(taught):.0%} of the drawn tokens taught anything"


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


@dataclass(frozen=True, slots=True)
class Threshold:
    """The bounds of one reading, and what to do beyond them."""

    row: str  # its name in `run_config.ROWS`
    what: str  # the subject, of which the first threshold that does not hold is shown
    read: Reading
    bounds: dict[Level, float]  # the worst level first
    advice: str
    bound: str = "at most {:g}"  # in words, the most or the least
    grounds: str = JUDGEMENT  # where the bounds are from
    live: bool = True  # shown while the run trains, too

    def judge(self, value: float, words: str) -> Finding:
        """The finding that a reading makes."""
        is_least = self.bound.startswith("at least")
        for level, bound in self.bounds.items():
            if value < bound if is_least else value > bound:
                text = f"{words} ({self.bound.format(bound)})"
                return Finding(level, self.what, text, self.advice, self.grounds, self.row)
        text = f"{words} ({self.bound.format(bound)})"
        return Finding("ok", self.what, text, grounds=self.grounds, row=self.row)


# in the order of a reader's questions
THRESHOLDS = (
    Threshold(
        "reward-dead",
        "reward",
        steps_without_reward,
        {"bad": PATIENCE_STEPS - 1},
        "nothing can be learned: read completions/, run make validate, and look whether the "
        "model can do the task at all",
        "at most {:g} steps without any",
        grounds=AXOLOTL,
    ),
    Threshold(
        "reward-unpaid",
        "reward",
        steps_without_one,
        {"warning": PATIENCE_STEPS - 1},
        "what is never paid is not learned: take it out, make it easier to earn, or start from a "
        "model that sometimes earns it",
        grounds=AXOLOTL,
    ),
    Threshold(
        "groups-solved",
        "signal",
        solved_groups,
        {"note": 0.8},
        "stop here, or train on harder problems",
        "at most {:.0%}",
        grounds=AXOLOTL,
    ),
    Threshold(
        "groups-silent",
        "signal",
        now("frac_reward_zero_std", "{:.0%} of the groups have no spread in reward now"),
        {"bad": 0.8, "warning": 0.6},
        WASTED,
        "at most {:.0%}",
        grounds=AXOLOTL,
    ),
    Threshold(
        "groups-alike",
        "signal",
        groups_alike,
        {"bad": 0.8, "warning": 0.6},
        WASTED,
        "at most {:.0%}",
        grounds=AXOLOTL,
    ),
    Threshold(
        "batches-lost",
        "batches",
        lost_batches,
        {"bad": 1, "warning": 0},
        "what draws the completions and what learns from them disagree: train as a new RUN with "
        "rollout=generate, and please report it",
    ),
    Threshold(
        "replies-cut",
        "length",
        now("completions/clipped_ratio", "{:.0%} of the replies are cut at the length limit now"),
        {"bad": 0.8, "warning": 0.3},
        "raise grpo.max_completion_length; if replies run on without end, look whether the model "
        "stops at the end of its turn (`<end_of_turn>`, `<|im_end|>`, `<|eot_id|>`)",
        "at most {:.0%}",
        grounds=AXOLOTL,
    ),
    Threshold(
        "length-changed",
        "length",
        length_change,
        {"warning": 1.5},
        "replies have another form than at first, and no better for it: read completions/",
        "at most {:g} times",
    ),
    Threshold(
        "entropy-gone",
        "entropy",
        now("entropy", "entropy {:.3g} nats per token now"),
        {"bad": 0.01},
        "the policy says the same thing every time: go back to an earlier adapter, lower "
        "grpo.learning_rate, raise grpo.temperature, or set grpo.beta above 0",
        "at least {:g}",
        grounds=AXOLOTL,
    ),
    Threshold(
        "entropy-rising",
        "entropy",
        restless,
        {"bad": 1.4, "warning": 1.2},
        "the policy is getting lost: stop, and begin again from the best adapter with a fraction "
        "of grpo.learning_rate",
        "at most {:g} times",
    ),
    Threshold(
        "entropy-halved",
        "entropy",
        entropy_left,
        {"warning": 0.5},
        "the policy has grown surer, and no better for it: lower grpo.learning_rate, or give it "
        "problems that it solves sometimes (make passrate)",
        "at least {:g} of the first",
    ),
    Threshold(
        "one-answer",
        "answers",
        one_answer,
        {"bad": 0.15, "warning": 0.05},
        "the policy is on its way to one answer to everything: stop, go back to the best adapter, "
        "and lower grpo.learning_rate",
        "at most {:.0%} more",
    ),
    Threshold(
        "same-wrong",
        "answers",
        now("sampled/same_wrong", "in {:.0%} of the groups all replies give the same wrong answer"),
        {"bad": 0.6, "warning": 0.3},
        "nothing is tried any more, so nothing can be found: stop, go back to the best adapter, "
        "and lower grpo.learning_rate or raise grpo.temperature",
        "at most {:.0%}",
    ),
    Threshold(
        "loops",
        "loops",
        now("sampled/loops", "{:.0%} of the replies say the same words again and again now"),
        {"bad": 0.3, "warning": 0.1},
        "the policy is losing its language: stop, go back to the best adapter, and lower "
        "grpo.learning_rate",
        "at most {:.0%}",
    ),
    Threshold(
        "false-sums",
        "sums",
        now("sampled/false_sums", "{:.0%} of the right replies have a sum that is false now"),
        {"bad": 0.5, "warning": 0.3},
        "right answers are guessed: pay for them only where the sums hold, as "
        "recipes/gsm8k/rewards/chain_reward.py does",
        "at most {:.0%}",
    ),
    Threshold(
        "working-lost",
        "working",
        working_left,
        {"bad": 0.5, "warning": 0.8},
        "the policy forgets to work problems out: stop, go back to the best adapter, and lower "
        "grpo.learning_rate",
        "at least {:g} of the first",
    ),
    Threshold(
        "validations-few",
        "held-out",
        validations,
        {"note": 2},
        "set holdout.validation_rows above 0 and holdout.every to a fraction of the steps",
        "at least {:g} to see a gamed reward",
        live=False,
    ),
    Threshold(
        "validation-fallen",
        "held-out",
        fallen,
        {"bad": 0.7},
        "training destroys what the model could do: stop, use the kept best adapter, and begin "
        "again with a fraction of grpo.learning_rate",
        "at least {:g} of the first",
    ),
    Threshold(
        "validation-falling",
        "held-out",
        falling,
        {"bad": 4, "warning": 2},
        "training makes it worse with every look: stop, use the kept best adapter, and begin again "
        "with a fraction of grpo.learning_rate",
        "at most {:g}",
    ),
    Threshold(
        "reward-gamed",
        "held-out",
        accuracy_drop(gamed=True),
        {"bad": 0.05},  # 100 problems have a standard error of 0.05
        "the reward is being gamed: read completions/ for how, close the hole in the reward, and "
        "use the kept best adapter meanwhile",
        "at most {:.0%} below the best",
    ),
    Threshold(
        "validation-worse",
        "held-out",
        accuracy_drop(gamed=False),
        {"warning": 0.05},
        "training makes it worse: lower grpo.learning_rate; holdout.patience stops such a run "
        "early",
        "at most {:.0%} below the best",
    ),
    Threshold(
        "by-heart",
        "held-out",
        known_by_heart,
        {"warning": 0.5},
        "they are learnt by heart, which teaches little more: train on more problems, and draw "
        "those that are not solved yet (sampling.band)",
        "at most {:.0%} more",
    ),
    Threshold(
        "only-sharper",
        "held-out",
        sharpening,
        {"note": 1.15},
        "the policy is surer of what it knew, no better: more of the same steps will not raise "
        "greedy accuracy; other problems or a better base may",
        "at least {:g} times as many",
    ),
    Threshold(
        "gradient-lost",
        "gradient",
        lost_gradients,
        {"bad": 0},
        "the weights are lost from there on: start a new run with a lower grpo.learning_rate or "
        "with model.dtype=float32",
        grounds=AXOLOTL,
    ),
    Threshold(
        "gradient-gone",
        "gradient",
        gradient_left,
        {"bad": 0.1},
        "nothing is learned any more, since all replies to a problem are worth the same: go back "
        "to the best adapter, and lower grpo.learning_rate",
        "at least {:g} of it",
    ),
    Threshold(
        "gradient-large", "gradient", largest_gradient, {"warning": 10}, CALMER, grounds=AXOLOTL
    ),
    Threshold("gradient-spike", "gradient", gradient_spike, {"warning": 20}, CALMER),
    Threshold(
        "only-form",
        "correctness",
        gain_of_right_answers,
        {"warning": 0.02},
        "only the format was learned: raise the weight of correctness_reward_func, lower the "
        "format rewards', or train longer",
        "at least {:.0%} more",
    ),
    Threshold(
        "right-falling",
        "correctness",
        right_left,
        {"bad": 0.6, "warning": 0.75},
        "the policy unlearns: stop, and begin again from the best adapter with a fraction of "
        "grpo.learning_rate",
        "at least {:g} of the first",
    ),
    Threshold(
        "kl-far",
        "kl",
        now("kl", "{:.3g} nats from the reference now"),
        {"warning": 2},
        "lower grpo.learning_rate or raise grpo.beta",
        grounds=AXOLOTL,
    ),
)


def check_run(log: MetricsLog) -> Iterator[Finding]:
    """Every check that the logged metrics allow, in the order of a reader's questions.

    Of each subject it is the first threshold that does not hold, else the last one.
    """
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
    steps = len(log.series("reward"))
    if steps < LEAST_STEPS:
        few = f"{steps} step(s) with a reward are logged; {LEAST_STEPS} are needed to judge"
        yield Finding("note", "too early", few)
    shown: dict[str, Finding] = {}
    for finding in check_rows(log):
        if finding.what not in shown or shown[finding.what].level == "ok":
            shown[finding.what] = finding
    in_order = dict.fromkeys(threshold.what for threshold in THRESHOLDS)
    yield from (shown[what] for what in in_order if what in shown)


def check_rows(log: MetricsLog, *, live: bool = False) -> Iterator[Finding]:
    """What each row says that the logged metrics allow, the ones that hold too.

    Args:
        live: without those that say something at the end alone.
    """
    is_early = len(log.series("reward")) < LEAST_STEPS
    for threshold in THRESHOLDS:
        if (is_early and threshold.what not in OF_SINGLE_STEPS) or (live and not threshold.live):
            continue
        reading = threshold.read(log)
        finding = None if reading is None else threshold.judge(*reading)
        if finding is not None and (finding.level == "bad" or not is_early):
            yield finding


class LiveCheck:
    """The doctor beside a run that trains: what is new, and whether it is lost.

    Args:
        stop_when: the rows that end the run, each at the worst level that it has.
    """

    def __init__(self, stop_when: Collection[str] = ()) -> None:
        self._worst: dict[str, Level] = {
            one.row: next(iter(one.bounds)) for one in THRESHOLDS if one.row in stop_when
        }
        self._said: set[tuple[str, Level]] = set()

    def look(self, log: MetricsLog) -> tuple[list[Finding], Finding | None]:
        """The findings that were not there at an earlier look, and the one that ends the run."""
        found = [one for one in check_rows(log, live=True) if one.level != "ok"]
        new = [one for one in found if (one.row, one.level) not in self._said]
        self._said |= {(one.row, one.level) for one in found}
        lost = next((one for one in found if self._worst.get(one.row) == one.level), None)
        return new, lost
