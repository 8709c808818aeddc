"""Rows of the task: a function to write, its cases, and a program that is right.

Our own row has `question`, `entry` (the function's name), `signature`, `public` and `hidden` (lists
of `[arguments, expected]`, the first shown, the second not), `gold` (the program) and perhaps
`solution` (how one gets there).  Values are written as in `values.py`; where a call must raise,
expected is `{"raises": "ValueError"}`.  Rows of MBPP and HumanEval are read as they are, by
`datasets.py`.
"""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xmlgrpo_rewards.task import BadRow, Example
from xmlgrpo_tasks.code import datasets, values
from xmlgrpo_tasks.rows import solution_field, text_field

LEAST_HIDDEN = 2
MOST_CASES = 200
TOO_WIDE = frozenset({"Exception", "BaseException"})
CASE = '[[argument, ...], expected] or [[argument, ...], {"raises": "ValueError"}]'


@dataclass(frozen=True, slots=True)
class Case:
    """One call and what must come of it."""

    packed: list[Any]  # the arguments as a worker gets them
    expected: Any  # a value; of no meaning where an exception is expected
    raises: str = ""  # the exception's name

    def met_by(self, answer: Mapping[str, Any]) -> bool:
        """Whether an answer of `candidate.run`, read back, is the right one."""
        if self.raises:
            raised = answer.get("raised")
            return isinstance(raised, list) and self.raises in raised
        return "value" in answer and values.same(self.expected, answer["value"])


@dataclass(frozen=True, slots=True)
class Judge:
    """What grading needs: from an example's `judge`."""

    entry: str
    public: list[Case]
    hidden: list[Case]

    @property
    def cases(self) -> list[Case]:
        """All of them, the shown ones first."""
        return self.public + self.hidden

    @property
    def arity(self) -> int:
        """How many arguments a call has."""
        return len(self.hidden[0].packed)


def example_of(row: Mapping[str, Any], row_id: str) -> Example:
    """Read one row of ours, of MBPP or of HumanEval.

    Raises:
        BadRow: a field is missing or of another kind, or the cases are none.
    """
    row = datasets.converted(row, row_id)
    texts = {key: text_field(row, key, row_id) for key in ("question", "entry", "signature")}
    gold, solution = text_field(row, "gold", row_id), solution_field(row, row_id)
    parts = texts | {key: row.get(key, []) for key in ("public", "hidden")}
    try:
        judge = json.dumps(parts)
        read = judge_of(judge)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRow(row_id, f"cases as {CASE} ({error})", parts["hidden"]) from None
    if not LEAST_HIDDEN <= len(read.hidden) <= MOST_CASES:
        wanted = f"{LEAST_HIDDEN} to {MOST_CASES} cases in 'hidden'"
        raise BadRow(row_id, wanted, f"{len(read.hidden)} of them")
    entry, signature = texts["entry"], texts["signature"]
    if _defined(signature) != entry:
        wanted = f"a signature of {entry!r}, as `def {entry}(a, b)`"
        raise BadRow(row_id, wanted, signature)
    return Example(
        id=row_id,
        question=_asked(texts["question"], signature, read),
        gold=gold,
        solution=solution,
        judge=judge,
    )


def row_of(example: Example) -> dict[str, Any]:
    """Write a problem as a row of ours."""
    return {**json.loads(example.judge), "gold": example.gold, "solution": example.solution}


def judge_of(text: str) -> Judge:
    """Read an example's `judge`.

    Raises:
        ValueError: it holds no cases of the right kind; says which.
    """
    parts = json.loads(text)
    public, hidden = (
        [_case(case, f"{key}[{i}]") for i, case in enumerate(parts[key])]
        for key in ("public", "hidden")
    )
    return Judge(parts["entry"], public, hidden)


def _case(case: Any, where: str) -> Case:
    match case:
        case [list(arguments), {"raises": str(name)}] if name and len(case[1]) == 1:
            if name in TOO_WIDE:
                raise ValueError(f"{where}: any mistake of a program raises {name}; name the kind")
            values.read(json.dumps(arguments))
            return Case(arguments, None, name)
        case [list(arguments), expected]:
            values.read(json.dumps(arguments))
            return Case(arguments, values.read(json.dumps(expected)))
    raise ValueError(f"{where} is not one")


def _defined(signature: str) -> str | None:
    try:
        [defined] = ast.parse(f"{signature.rstrip(':')}: ...").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return defined.name if isinstance(defined, ast.FunctionDef) else None


def _asked(question: str, signature: str, judge: Judge) -> str:
    lines = [question, "", signature.rstrip(":") + ":"]
    for case in judge.public:
        call = f"{judge.entry}({', '.join(repr(values.unpack(each)) for each in case.packed)})"
        lines.append(
            f"{call} raises {case.raises}" if case.raises else f"{call} == {case.expected!r}"
        )
    return "\n".join(lines)
