"""Rows of MBPP and HumanEval as rows of ours.

Both say what is right by programs that assert.  None of that text is ever run: each assertion must
read `assert f(literals) == literal`, so that inputs and expected values can be taken apart.  A row
with another kind of assertion is refused.
"""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from xmlgrpo_rewards.task import BadRow
from xmlgrpo_tasks.code import values

MBPP = {"code", "test_list"}
HUMAN_EVAL = {"prompt", "canonical_solution", "test", "entry_point"}
OPERATIONS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
MOST_CHARS = 100  # of each side, so that products stay short
ASSERTION = "assertions of the kind `assert f(literals) == literal`"


def converted(row: Mapping[str, Any], row_id: str) -> Mapping[str, Any]:
    """The row as one of ours; another's than those two as it is.

    Raises:
        BadRow: an assertion is of another kind, or the program does not define the function.
    """
    try:
        if row.keys() >= HUMAN_EVAL:
            return _human_eval(row, row_id)
        if row.keys() >= MBPP:
            return _mbpp(row, row_id)
    except (
        SyntaxError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
        MemoryError,
    ) as error:
        raise BadRow(row_id, "programs that can be parsed", str(error)) from None
    return row


def _mbpp(row: Mapping[str, Any], row_id: str) -> dict[str, Any]:
    """The first of its three assertions is shown, since nothing else tells the function's name."""
    tests = [*row["test_list"], *row.get("challenge_test_list", [])]
    statements = [statement for test in tests for statement in ast.parse(test).body]
    entry = _called(statements[0], row_id) if statements else ""
    cases = list(_cases(statements, entry, row_id))
    gold = row["code"].replace("\r\n", "\n").replace("\t", "    ")
    return {
        "question": row.get("text") or row.get("prompt"),
        "entry": entry,
        "signature": _signature(gold, entry, row_id),
        "public": cases[:1],
        "hidden": cases[1:],
        "gold": gold,
    }


def _human_eval(row: Mapping[str, Any], row_id: str) -> dict[str, Any]:
    """The prompt is the question; its docstring has examples, so none is shown besides."""
    entry = row["entry_point"]
    [check] = [node for node in ast.parse(row["test"]).body if isinstance(node, ast.FunctionDef)]
    gold = row["prompt"] + row["canonical_solution"]
    return {
        "question": f"Complete this program:\n\n{row['prompt'].strip()}",
        "entry": entry,
        "signature": _signature(gold, entry, row_id),
        "public": [],
        "hidden": list(_cases(check.body, check.args.args[0].arg, row_id)),
        "gold": gold,
    }


def _called(statement: ast.stmt, row_id: str) -> str:
    match statement:
        case ast.Assert(ast.Compare(ast.Call(ast.Name(name)), [ast.Eq()])):
            return name
    raise BadRow(row_id, ASSERTION, ast.unparse(statement))


def _cases(statements: list[ast.stmt], entry: str, row_id: str) -> Iterator[list[Any]]:
    for statement in statements:
        match statement:
            case ast.Assert(ast.Constant()) | ast.Pass():
                continue  # HumanEval's `assert True, "This prints if ..."`
            case ast.Assert(
                ast.Compare(ast.Call(ast.Name(name), arguments, []), [ast.Eq()], [expected])
            ) if name == entry:
                try:
                    packed = [values.pack(_literal(argument)) for argument in arguments]
                    yield [packed, values.pack(_literal(expected))]
                    continue
                except (ValueError, TypeError, ArithmeticError, values.NotPlain):
                    pass  # no literal, or one that JSON has no word for
        raise BadRow(row_id, ASSERTION, ast.unparse(statement))


def _literal(node: ast.expr) -> Any:
    """The value of a literal, or of a sum, product and so on of short ones, as `3 * 19`.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(node, ast.BinOp):
        return ast.literal_eval(node)
    operation = OPERATIONS.get(type(node.op))
    left, right = _literal(node.left), _literal(node.right)
    if operation is None or max(len(repr(left)), len(repr(right))) > MOST_CHARS:
        raise ValueError("no literal")
    return operation(left, right)


def _signature(program: str, entry: str, row_id: str) -> str:
    """The function's first line, without annotations that need an import."""
    for node in ast.parse(program).body:
        if isinstance(node, ast.FunctionDef) and node.name == entry:
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                argument.annotation = None
            return f"def {entry}({ast.unparse(node.args)})"
    raise BadRow(row_id, f"a program that defines {entry!r}", program)
