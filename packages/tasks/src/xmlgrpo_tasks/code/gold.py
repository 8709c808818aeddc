"""Why a row cannot be trained or measured on: its gold is wrong, or its cases tell nothing.

The gold is run, three times, in workers whose sets of texts have different orders.  What a lazy
program would return needs no running: it is compared with what is expected.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from xmlgrpo_rewards.task import Example
from xmlgrpo_tasks.code import values
from xmlgrpo_tasks.code.grading import Verdict, verdicts
from xmlgrpo_tasks.code.rows import Case, Judge, judge_of

HASH_SEEDS = (0, 1, 2)
MOST_SECONDS = 0.5
MOST_SHOWN = 60
MISSING = "No module named "
# what a function returns that does not look at its arguments
CONSTANTS: tuple[Any, ...] = (None, True, False, 0, 1, -1, "", [], {}, set(), 0.0)


def gold_fault(example: Example) -> str | None:
    """One sentence about what is wrong with a row, or None.

    Raises:
        UserError: this machine has no sandbox.
    """
    judge = judge_of(example.judge)
    runs = [verdicts([(example.gold, judge)], seed)[0] for seed in HASH_SEEDS]
    return _of_gold(runs) or cases_fault(judge)


def _of_gold(runs: list[Verdict]) -> str | None:
    first = runs[0]
    if MISSING in first.why:
        module = first.why.partition(MISSING)[2]
        return f"the gold program needs the module {module}, which is not in the standard library"
    if any(run.right != first.right for run in runs):
        return "the gold program does not give the same each time; its cases cannot be trusted"
    if not all(first.right):
        return f"the gold program is not right: {first.why}"
    if not first.defines:
        return "the gold program does not define the function with as many arguments as a case has"
    if min(run.seconds for run in runs) > MOST_SECONDS:
        return f"the gold program takes {first.seconds:.1f} s of CPU; {MOST_SECONDS} s is the most"
    return None


def cases_fault(judge: Judge) -> str | None:
    """What is wrong with the cases, whatever the gold: a program without work passes them.

    Such a program may answer the shown cases from a table, so that the others have to tell.
    """
    shown = [case.packed for case in judge.public]
    unseen = [case for case in judge.hidden if case.packed not in shown]
    if judge.public and all(any(_equal(case, other) for other in judge.public) for case in unseen):
        return "the hidden cases expect nothing that the shown ones do not; add others"
    for name, returned in _lazy(unseen, judge.arity):
        if all(case.met_by({"value": given}) for case, given in zip(unseen, returned, strict=True)):
            return (
                f"a function that returns {name} passes all cases that are not shown; add hidden "
                "cases that tell it apart"
            )
    if all(case.raises for case in unseen):
        return "every hidden case wants an exception; add cases that return something"
    return None


def _lazy(cases: Sequence[Case], arity: int) -> Iterator[tuple[str, list[Any]]]:
    """What functions that do no work return: its name, and a value a case."""
    for constant in (*CONSTANTS, *[case.expected for case in cases[:1] if not case.raises]):
        yield repr(constant)[:MOST_SHOWN], [constant] * len(cases)
    for number in range(arity):
        yield f"its argument {number + 1}", [_argument(case, number) for case in cases]


def _argument(case: Case, number: int) -> Any:
    return values.unpack(case.packed[number]) if number < len(case.packed) else None


def _equal(case: Case, other: Case) -> bool:
    return case.raises == other.raises and values.same(case.expected, other.expected)
