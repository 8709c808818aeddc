"""GSM8K's problems with numbers that nobody has seen: did the model learn, or remember?

The problems come from the templates of reasoning-gym's `gsm_symbolic` (Apache-2.0), which were made
from items of GSM8K's test split (Mirzadeh et al. 2024, "GSM-Symbolic", arXiv 2410.05229).  Only the
generators of that package are run; its scorers, of which some execute what a model wrote, are not
even imported.
"""

import ast
import json
import math
import operator
import os
import re
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.numbers import parse_number
from xmlgrpo_rewards.rows import MAX_JSON_BYTES, bounded_json
from xmlgrpo_rewards.task import BadRow, get_task
from xmlgrpo_run.files import read_bytes, sealed, unsealed, write_text
from xmlgrpo_run.measures.paired import Difference

FRESH_TASK = "gsm8k_xml_fresh"
ROWS = 500
PACKAGE, MODULE, TRIED = "reasoning-gym", "reasoning_gym", "0.1.25"
# templates that 0.1.25 lists as in need of repair
FAULTY = frozenset({32, 35, 37, 61, 63, 65, 74, 76, 77, 79, 86, 87, 90, 97, 98})

ROUNDING = 0.006  # of a result that is written with two decimals
OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda left, right: left / right if right else math.nan,
}
_NUMBER = r"\d+(?:\.\d+)?"
_SUM = re.compile(
    rf"(?<![\w.%)/*+-])({_NUMBER}(?: ?[-+*/] ?{_NUMBER})+) ?= ?({_NUMBER})(?![\w.%/*+-])"
)

Template = Callable[[Random, float], Mapping[str, Any]]


def fresh_file(folder: Path, rows: int, seed: int) -> Path:
    """The file of such problems in `folder`, written once; its name says from what it was made.

    Raises:
        UserError: reasoning-gym is not installed, or in another version than the one tried; or the
            file is there and is not what was written.
    """
    path = folder / f"fresh-{PACKAGE}-{TRIED}-{rows}-seed{seed}.jsonl"
    if not os.path.lexists(path):
        lines = [json.dumps(sealed(row)) for row in fresh_rows(rows, seed)]
        write_text(path, "".join(f"{line}\n" for line in lines))
    elif _whole_rows(path) != rows:
        raise UserError(f"{path} is damaged or was changed; remove it, and it is made again")
    return path


def _whole_rows(path: Path) -> int:
    """How many rows of a file are as they were written; 0 where one is not."""
    lines = read_bytes(path, MAX_JSON_BYTES).splitlines()
    try:
        return len([unsealed(path, dict(bounded_json(line))) for line in lines])
    except (ValueError, TypeError, UserError):
        return 0


def fresh_rows(rows: int, seed: int) -> Iterator[dict[str, Any]]:
    """Rows in GSM8K's schema, each template in turn, golds whole numbers, no question twice.

    Raises:
        UserError: as `fresh_file`.
    """
    task, rng, seen = get_task("gsm8k"), Random(seed), set[str]()  # noqa: S311 - no secret
    for number, template in cycle(sorted(_templates().items())):
        if len(seen) == rows:
            return
        made = template(rng, 1.0)
        worked, _, end = made["metadata"]["answer_cot"].rpartition("####")
        answer = f"{worked}#### {made['answer']}"
        row = {"question": made["question"], "answer": answer, "template": number}
        try:
            gold = parse_number(task.example(row, f"fresh-{len(seen)}").gold)
        except BadRow:
            continue  # some solutions end in no number
        is_whole = gold is not None and gold == gold.to_integral_value()
        is_sound = is_whole and gold == parse_number(end) and _sums_hold(worked)
        if is_sound and row["question"] not in seen:
            seen.add(row["question"])
            yield row


def _sums_hold(worked: str) -> bool:
    """Whether each plain sum in a solution is right: some templates cut a result to a whole one."""
    return all(
        abs(_value(ast.parse(left.strip(), mode="eval").body) - float(right)) < ROUNDING
        for left, right in _SUM.findall(worked.replace("$", "").replace(",", ""))
    )


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(left), _value(right))
    return math.nan  # and no sum holds


def _templates() -> dict[int, Template]:
    """The generators by their number, loaded without the package around them."""
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        found = "none"
    spec = find_spec(MODULE)
    if found != TRIED or spec is None or spec.origin is None:
        raise UserError(
            f"fresh numbers are made by {PACKAGE} {TRIED}, got {found}; install it with: make eval "
            f"FRESH=1 (or .venv/bin/pip install --no-deps {PACKAGE}=={TRIED})"
        )
    folder = Path(spec.origin).parent
    # its __init__ would import every data set it has, with a dozen packages
    bare = ModuleType(MODULE)
    bare.__path__ = [str(folder)]
    before = {name for name in sys.modules if name.partition(".")[0] == MODULE}
    sys.modules.setdefault(MODULE, bare)
    templates: dict[int, Template] = {}
    try:
        for path in sorted((folder / "arithmetic" / "gsm_symbolic").glob("generators_*.py")):
            for name, function in runpy.run_path(str(path)).items():
                number = name.removeprefix("generate_")
                if number.isdecimal() and int(number) not in FAULTY:
                    templates[int(number)] = function
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == MODULE]:
            if name not in before:
                del sys.modules[name]
    return templates


def told(fresh: Mapping[str, Any], known: Mapping[str, Any] | None) -> str:
    """What two comparisons say in words: of fresh numbers, and of the items that one has.

    Args:
        fresh: `compare_results` of base and tuned on fresh numbers.
        known: the same on the run's usual items; None where they were not asked.
    """
    gain, mean = _gain(fresh)
    if gain.low > 0:
        said = f"learned: on numbers that nobody has seen, tuned is better by {gain}"
    elif gain.high < 0:
        said = f"not learned: on numbers that nobody has seen, tuned is worse by {gain}"
    else:
        said = f"not shown to have learned: on numbers that nobody has seen, {gain}"
    if known is None:
        return f"{said}; its gain on the usual items is not known (make eval without FRESH)"
    usual, usual_mean = _gain(known)
    if usual.low > 0 >= gain.low:
        said += f"; its gain on the usual items, {usual}, may be memory of them"
    else:
        said += f"; on the usual items {usual}"
    return f"{said}. Tuned is right on {mean:.1%} of the fresh items and {usual_mean:.1%} of those"


def _gain(compared: Mapping[str, Any]) -> tuple[Difference, float]:
    """The difference that a comparison judges by, and the second model's share."""
    task = next(iter(compared["tasks"].values()))  # sampled replies are another one
    metric = task["metrics"][task["judged_by"]]
    return Difference(**metric["difference"]), metric["second"]["mean"]
