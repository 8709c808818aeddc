"""The names of metrics in every table and plot, in the words of the task (`task.Words`)."""

from dataclasses import dataclass

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Words, extras, get_task

PASS_AT = (2, 4, 8, 16, 32)  # of k replies per item: the points of the curve of pass@k


@dataclass(frozen=True, slots=True)
class MetricName:
    """A metric's name, and in a few words what it means; empty where the name says it."""

    label: str
    meaning: str = ""

    @property
    def full(self) -> str:
        """Both: `strict accuracy (form and number)`."""
        return f"{self.label} ({self.meaning})" if self.meaning else self.label


def words_of(task: str) -> Words:
    """The words of a task; the plain ones where it gives none, or is not installed here."""
    try:
        return extras(get_task(task)).words
    except UserError:
        return Words()


def metric_names(words: Words) -> dict[str, MetricName]:
    """Metric -> its name, in the order of the tables; without those that say nothing."""
    names = {
        "strict_format": MetricName("strict format", "all tags, in order"),
        "soft_format": MetricName("soft format", "but for white space"),
        "strict_accuracy": MetricName("strict accuracy", f"form and {words.answer}"),
        "lenient_accuracy": MetricName("lenient accuracy", f"{words.answer}, any form"),
        **{f"pass_at_{few}": MetricName(f"pass@{few}") for few in PASS_AT},
        "pass_at_k": MetricName("pass@k", "any of the replies is right"),
        "maj_at_k": MetricName("maj@k", "the most frequent answer is right"),
        "share_right": MetricName("parts right", "mean share of an answer's parts"),
        "worked": MetricName("worked out", words.worked or ""),
        "truncated": MetricName("cut at the limit", "of length"),
        "no_answer": MetricName("no answer read"),
        "mean_tokens": MetricName("tokens per reply"),
        "reply_tokens": MetricName("tokens per reply"),
    }
    if words.worked is None:
        del names["worked"]
    return names
