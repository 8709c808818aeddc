"""Time the graders of tasks that make their own rows: candidates a second, hostile ones too.

    python -m bench.cpu.task_graders                          # each task
    python -m bench.cpu.task_graders json_qa --json FILE      # one, with its result as JSON

A training step grades what a model wrote, right or wrong; what costs time is what the task's own
battery tries.  So each row gets its gold reply and replies of its battery, all in one call, as
a step hands them on; a task with a pool of workers fills it.  Then every reply of one row's battery
is timed alone, for the slowest.  Nothing is kept between replies.  Those that are there to run into
a limit (a program that hangs or eats memory) cost what the limit is: they are among the slowest,
not among the others.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.task import Example, Task, extras, get_task, task_names

REPLIES = 16  # to a row: the gold and others of its battery, evenly spread
BATCH = 64  # replies a call
SLOWEST = 5
TO_THE_LIMIT = ("hang-", "memory-")
LONG_S = 0.5  # is timed once
LIMIT_PER_S = {"code": 100.0}  # a process each; others:
LIMIT_OTHERS_PER_S = 200.0


@dataclass(frozen=True, slots=True)
class Slow:
    """One reply of the battery, timed alone."""

    name: str
    characters: int
    ms: float  # the best of three calls


@dataclass(frozen=True, slots=True)
class Result:
    """What one task's grader does on this machine."""

    task: str
    rows: int
    candidates: int
    seconds: float
    candidates_per_s: float
    limit_per_s: float
    row_ms: float  # to read a row and check its gold
    slowest: list[Slow]
    cores: int
    python: str


def measure(task: Task, rows: int, seed: int) -> Result:
    """Grade generated rows' replies."""
    offers = extras(task)
    assert offers.generated is not None  # noqa: S101 - main asks
    began_s = time.perf_counter()
    examples = [
        task.example(row, f"row-{number}")
        for number, row in enumerate(offers.generated(rows, seed))
    ]
    faults = [fault for example in examples if (fault := offers.gold_fault(example))]
    row_ms = (time.perf_counter() - began_s) / rows * 1000
    if faults:
        raise SystemExit(f"{task.name}: {faults[0]}")
    asked = [(reply, example) for example in examples for reply in replies(task, example)]
    warm_up, _ = zip(*asked[:BATCH], strict=True)
    offers.grade_many(warm_up, [example for _, example in asked[:BATCH]])
    began_s = time.perf_counter()
    for start in range(0, len(asked), BATCH):
        texts, of = zip(*asked[start : start + BATCH], strict=True)
        offers.grade_many(texts, of)
    seconds = time.perf_counter() - began_s
    return Result(
        task=task.name,
        rows=rows,
        candidates=len(asked),
        seconds=round(seconds, 3),
        candidates_per_s=round(len(asked) / seconds, 1),
        limit_per_s=LIMIT_PER_S.get(task.name, LIMIT_OTHERS_PER_S),
        row_ms=round(row_ms, 2),
        slowest=slowest(task, examples[0]),
        cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
    )


def replies(task: Task, example: Example) -> list[str]:
    """The gold reply and some of the battery's, as many for each row."""
    battery = [
        hack.reply for hack in extras(task).hacks(example) if not hack.name.startswith(TO_THE_LIMIT)
    ]
    step = max(1, len(battery) // (REPLIES - 1))
    gold = render(example.solution or "The answer is known.", example.gold)
    return [gold, *islice(battery[::step], REPLIES - 1)]


def slowest(task: Task, example: Example) -> list[Slow]:
    """The replies of one row's battery that take longest, alone."""

    def best_ms(reply: str) -> float:
        times_s = []
        for _ in range(3):
            began_s = time.perf_counter()
            task.grade(reply, example)
            times_s.append(time.perf_counter() - began_s)
            if times_s[0] > LONG_S:
                break
        return round(min(times_s) * 1000, 2)

    timed = [
        Slow(hack.name, len(hack.reply), best_ms(hack.reply))
        for hack in extras(task).hacks(example)
    ]
    return sorted(timed, key=lambda slow: -slow.ms)[:SLOWEST]


def line(result: Result) -> str:
    """One line about a task, and one for each of its slowest replies."""
    names = "".join(
        f"\n    {slow.ms:8.2f} ms  {slow.characters:7,} characters  {slow.name}"
        for slow in result.slowest
    )
    return (
        f"{result.task:<10}{result.candidates_per_s:8,.0f} candidates/s on {result.cores} cores "
        f"(limit {result.limit_per_s:,.0f}), {result.row_ms:.1f} ms to read and check a row{names}"
    )


def able(names: Sequence[str]) -> list[Task]:
    """The tasks of these names that make rows of their own."""
    return [task for name in names if extras(task := get_task(name)).generated is not None]


def main() -> int:
    """Measure and print; 1 when a grader is under its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tasks", nargs="*", help="names; none: each that makes rows of its own")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go, too")
    given = parser.parse_args()
    results = []
    for task in able(given.tasks or task_names()):
        results.append(measure(task, given.rows, given.seed))
        print(line(results[-1]), flush=True)
    if given.json:
        text = json.dumps([asdict(result) for result in results], indent=2)
        given.json.write_text(text + "\n", encoding="utf-8")
    return int(any(result.candidates_per_s < result.limit_per_s for result in results))


if __name__ == "__main__":
    raise SystemExit(main())
