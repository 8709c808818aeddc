"""What a reply is worth: its program is run on all cases, elsewhere, and the results are compared.

Nothing here believes a program: no exit code, no output, no assertion decides.
"""

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.task import Example, Grade
from xmlgrpo_tasks.code import values
from xmlgrpo_tasks.code.rows import Case, Judge, judge_of
from xmlgrpo_tasks.workers import sandbox
from xmlgrpo_tasks.workers.pool import Outcome, Pool

DEFINES = "defines"  # in `Grade.parts`: the program parses and has the function
WALL_S = 8.0  # candidate.WALL_S and what it takes to get that far
WORKER_BYTES = 1 << 30
MOST_ALONE = 8  # of one call: 4 s each at the worst
NOTE_CHARS = 120
LANGUAGES = ("", "python", "python3", "py")  # of a fence around a program


@dataclass(frozen=True, slots=True)
class Program:
    """A program as it stands in a reply."""

    text: str
    bare: bool = False  # it is all that the answer block holds
    in_block: bool = False  # it is in the answer block, perhaps fenced


@dataclass(frozen=True, slots=True)
class Verdict:
    """What running a program has shown."""

    right: list[bool]  # a case each, the shown ones first
    defines: bool
    why: str  # what is wrong, for people; empty when all is right
    seconds: float = 0.0  # of CPU


NO_PROGRAM = Verdict([False], defines=False, why="no program")


def read_program(text: str, entry: str) -> Program | None:
    """Find the program in a reply.

    It is what the answer block holds.  Without one it is the last fenced block, or else what begins
    at the last `def` of the function; a reply without any has no answer.
    """
    in_answer = reply.parse(text).answer
    if in_answer is not None:
        fenced = _fenced(in_answer)
        return (
            Program(fenced or in_answer, bare=fenced is None, in_block=True) if in_answer else None
        )
    last = _last_fenced(text)
    if last is not None:
        return Program(last)
    start = max(text.rfind(f"\ndef {entry}("), 0 if text.startswith(f"def {entry}(") else -1)
    if start < 0:
        return None
    end = min(
        len(text), *(at for tag in reply.TAGS if (at := text.find(tag, start)) > 0), len(text)
    )
    return Program(text[start:end].strip())


def _fenced(text: str) -> str | None:
    """What one fence around the whole text holds, where it is Python."""
    language, inside = reply.fenced(text) or ("-", "")
    return inside.rstrip() if language.rstrip(" \t").lower() in LANGUAGES else None


def _last_fenced(text: str) -> str | None:
    end = text.rfind(f"\n{reply.FENCE}")
    start = text.rfind(reply.FENCE, 0, end) if end > 0 else -1
    return _fenced(text[start : end + 1 + len(reply.FENCE)]) if start >= 0 else None


def grade_many(texts: Sequence[str], examples: Sequence[Example]) -> list[Grade]:
    """Grade replies, each to the example beside it.

    Raises:
        UserError: this machine has no sandbox.
    """
    judges = {example.judge: judge_of(example.judge) for example in examples}
    programs = [
        read_program(text, judges[example.judge].entry)
        for text, example in zip(texts, examples, strict=True)
    ]
    wanted = dict.fromkeys(
        (program.text, example.judge)
        for program, example in zip(programs, examples, strict=True)
        if program
    )
    run = verdicts([(text, judges[judge]) for text, judge in wanted])
    found = dict(zip(wanted, run, strict=True))
    return [
        _grade(text, program, found[program.text, example.judge] if program else NO_PROGRAM)
        for text, program, example in zip(texts, programs, examples, strict=True)
    ]


def _grade(text: str, program: Program | None, verdict: Verdict) -> Grade:
    form, right = reply.parse(text), all(verdict.right)
    return Grade(
        strict_correct=form.strict and right and program is not None and program.bare,
        lenient_correct=right,
        strict_format=form.strict,
        soft_format=form.soft,
        answered=program is not None,
        answer=program.text if program else None,
        note=verdict.why,
        share=sum(verdict.right) / len(verdict.right),
        parts=frozenset({DEFINES} if verdict.defines and program and program.in_block else ()),
    )


def verdicts(programs: Sequence[tuple[str, Judge]], hash_seed: int = 0) -> list[Verdict]:
    """Run programs in this machine's workers and compare.

    Raises:
        UserError: this machine has no sandbox.
    """
    jobs, orders = [], []
    for text, judge in programs:
        cases = judge.cases
        order = list(range(len(cases)))
        # a program that counts its calls is none that works
        random.Random(zlib.crc32(text.encode(errors="replace"))).shuffle(order)  # noqa: S311
        orders.append(order)
        jobs.append(
            {
                "program": text,
                "entry": judge.entry,
                "arity": judge.arity,
                "inputs": [cases[i].packed for i in order],
            }
        )
    outcomes = _run(jobs, hash_seed)
    return [
        _verdict(outcome, judge.cases, order)
        for outcome, (_, judge), order in zip(outcomes, programs, orders, strict=True)
    ]


def _run(jobs: Sequence[object], hash_seed: int) -> list[Outcome]:
    outcomes = workers(hash_seed).map(jobs)
    # What ended its worker gets another, alone: it may have been the fault of the one before.
    again = [i for i, outcome in enumerate(outcomes) if outcome.why]
    for i, outcome in zip(again, workers(hash_seed).map([jobs[i] for i in again]), strict=True):
        outcomes[i] = outcome
    # What waited for a busy machine gets it for itself, up to a limit: a model may learn to wait.
    waited = [i for i, outcome in enumerate(outcomes) if outcome.value and outcome.value["waited"]]
    for i in waited[:MOST_ALONE]:
        [outcomes[i]] = workers(hash_seed).map([jobs[i]])
    return outcomes


@cache
def workers(hash_seed: int = 0) -> Pool:
    """The pool of this process, in this machine's sandbox; one for each order of sets.

    Raises:
        UserError: this machine has no sandbox.
    """
    chosen = sandbox.choose()
    return Pool(
        "xmlgrpo_tasks.code.candidate:run",
        needs=["xmlgrpo_tasks.workers.syscalls", "xmlgrpo_tasks.code.values"],
        wall_s=WALL_S,
        memory_bytes=WORKER_BYTES,
        wrap=chosen.wrap,
        reuse=chosen.reuse,
        hash_seed=hash_seed,
    )


def _verdict(outcome: Outcome, cases: Sequence[Case], order: Sequence[int]) -> Verdict:
    right = [False] * len(cases)
    if outcome.why:
        return Verdict(right, defines=False, why=outcome.why)
    result, faults = outcome.value, []
    for i, text in zip(order, result["answers"], strict=False):
        answer = _answer(text)
        right[i] = cases[i].met_by(answer)
        if not right[i]:
            faults.append(_fault(answer))
    faults.append(result["why"])
    return Verdict(right, result["defines"], _note(right, faults), result["seconds"])


def _answer(text: str) -> dict[str, Any]:
    """An answer as the program's process wrote it; an empty one where it makes no sense."""
    try:
        answer = values.read(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _fault(answer: dict[str, Any]) -> str:
    for key, words in (("said", "raised"), ("odd", "returned")):
        if isinstance(answer.get(key), str):
            return f"{words} {answer[key]}"
    return ""


def _note(right: Sequence[bool], faults: Sequence[str]) -> str:
    if all(right):
        return ""
    said = next(filter(None, faults), "")[:NOTE_CHARS]
    why = "".join(c if c.isprintable() else " " for c in said)  # it goes to terminals and logs
    if why and not any(right):
        return why
    count = f"{sum(right)} of {len(right)} cases"
    return f"{count}: {why}" if why else count
