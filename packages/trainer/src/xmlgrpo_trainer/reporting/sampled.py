"""What the newest training batch looks like: shares of its completions, which say where it goes."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from xmlgrpo_rewards.grading import grade_all
from xmlgrpo_rewards.numbers import is_worked
from xmlgrpo_rewards.reply import parse
from xmlgrpo_rewards.task import Grade, Task, extras
from xmlgrpo_run.measures.sums import written_sums
from xmlgrpo_trainer.grpo.rewards import Scored

RUN, LEAST_RUNS = 4, 8  # words in a row, and how many such runs a reply needs to be called a loop
LOOPING = 0.5  # of them are repeated; in 7,872 replies of two runs that learned, not once
MOST_READ = 128  # right replies whose sums are read: half a millisecond each


def sampled_shares(task: Task, batch: Sequence[Scored]) -> dict[str, float]:
    """Shares of a batch, under the names that `metrics.jsonl` has."""
    grades = grade_all(task, [o.completion for o in batch], [o.example for o in batch])
    questions = [one.example.question for one in batch]
    total = max(1, len(grades))
    shares = [grade.share for grade in grades if grade.share is not None]
    right = [o.completion for o, g in zip(batch, grades, strict=True) if g.lenient_correct]
    read = right[:MOST_READ] if extras(task).words.worked else []
    return {
        "sampled/replies": len(grades),
        "sampled/strict_format": sum(g.strict_format for g in grades) / total,
        "sampled/strict": sum(g.strict_correct for g in grades) / total,
        "sampled/lenient": sum(g.lenient_correct for g in grades) / total,
        "sampled/worked": sum(is_worked(one.completion) for one in batch) / total,
        "sampled/loops": sum(repetition(one.completion) > LOOPING for one in batch) / total,
        "sampled/one_answer": agreement(questions, [grade.answer for grade in grades]),
        "sampled/same_wrong": same_wrong(questions, grades),
        **({"sampled/share_right": sum(shares) / len(shares)} if shares else {}),
        **({"sampled/false_sums": sum(map(has_false_sum, read)) / len(read)} if read else {}),
    }


def agreement(questions: Sequence[str], answers: Sequence[str | None]) -> float:
    """How often two replies to different problems give the same answer: a share of their pairs.

    It is 1 where the policy has one answer to everything.  No answer agrees with nothing.
    """
    asked, given = Counter(questions), Counter(answers)
    together = Counter(zip(questions, answers, strict=True))
    del given[None]
    pairs = len(questions) ** 2 - sum(count**2 for count in asked.values())
    same = sum(count**2 for count in given.values())
    same -= sum(count**2 for (_, answer), count in together.items() if answer is not None)
    return same / pairs if pairs else 0.0


def same_wrong(questions: Sequence[str], grades: Sequence[Grade]) -> float:
    """The share of problems, asked twice or more, to which all replies give one wrong answer."""
    groups: dict[str, list[Grade]] = defaultdict(list)
    for question, grade in zip(questions, grades, strict=True):
        groups[question].append(grade)
    several = [group for group in groups.values() if len(group) > 1]
    alike = [
        group
        for group in several
        if all(a.answer == b.answer for a, b in pairwise(group))
        if group[0].answered and not group[0].lenient_correct
    ]
    return len(alike) / len(several) if several else 0.0


def repetition(text: str) -> float:
    """The share of runs of 4 words that were there before; 0 of a short text.

    (`seq-rep-4`, Welleck et al. 2019, "Neural Text Generation with Unlikelihood Training", arXiv
    1908.04319, section 6.)
    """
    words = text.split()
    runs = [tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if len(runs) >= LEAST_RUNS else 0.0


def has_false_sum(completion: str) -> bool:
    """Whether a sum that can be read in the reasoning does not hold."""
    return any(not one.holds for one in written_sums(parse(completion).reasoning or completion))
