"""What the warm start shows a task's tiny base: replies to generated problems, some at fault.

A reply is read from the problem (the solution, then the gold answer) or remembered (the answer to
another problem), in the reply format or plain.  First the base learns to read; then remembering
becomes its habit where a problem is long.  So it answers some of the short ones, and what a problem
needs is in it wherever sampling finds it.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.task import Example as Problem
from xmlgrpo_trainer.tiny.settings import TinySettings

READ = "I read the question."  # where a task writes no solutions
REMEMBERED = "I remember it."


@dataclass(frozen=True, slots=True)
class Kind:
    """Which of the four kinds of reply a problem gets."""

    read: bool
    tagged: bool


def kinds(problems: Sequence[Problem], settings: TinySettings, seed: int) -> list[Kind]:
    """A kind of reply for each of the warm start's problems: skill first, habit last."""
    rng = random.Random(f"kinds {seed}")  # noqa: S311 - no secret depends on it
    habit = round(len(problems) * (1 - settings.habit_share))
    long = median(len(problem.question) for problem in problems)
    drawn = []
    for number, problem in enumerate(problems):
        is_habit = number >= habit and len(problem.question) >= long
        read = settings.worked_habit if is_habit else settings.worked_before
        drawn.append(Kind(rng.random() < read, rng.random() < settings.tagged))
    return drawn


def written(problem: Problem, other: Problem, kind: Kind) -> str:
    """A reply to `problem`, which is right if it is read; remembered, it is the other's answer."""
    if kind.tagged:
        return (
            render(problem.solution or READ, problem.gold)
            if kind.read
            else render(REMEMBERED, other.gold)
        )
    return f"{problem.solution or READ}\n{problem.gold}" if kind.read else other.gold


def replies(problems: Sequence[Problem], settings: TinySettings, seed: int) -> list[str]:
    """One reply to each problem of the warm start; any of them may be remembered for another."""
    rng = random.Random(f"others {seed}")  # noqa: S311 - no secret depends on it
    return [
        written(problem, rng.choice(problems), kind)
        for problem, kind in zip(problems, kinds(problems, settings, seed), strict=True)
    ]
