"""Rows in, problems out: one's own, generated ones and those of `synthetic_text_to_sql`.

The data of a database are INSERTs of literals and nothing else: they are read here and never run,
so a row can do no more than hold values.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from xmlgrpo_rewards.task import BadRow, Example
from xmlgrpo_tasks.rows import solution_field, text_field, whole_text
from xmlgrpo_tasks.sql.derive import derived
from xmlgrpo_tasks.sql.engine import MAX_SQL_CHARS, QUERY_VERBS, Job, first_word
from xmlgrpo_tasks.sql.inserts import Insert, NotLiteral, Value, literal, parse_inserts
from xmlgrpo_tasks.sql.lexer import QUOTES, has_top_order, statements, tokens

SHOWN_ROWS = 3
MAX_SHOWN_CHARS = 80  # of one cell
MAX_DATABASES = 8
MAX_DATA_CHARS = 50_000
ASKED = "Write one SQLite SELECT, without a semicolon or a code fence."


@dataclass(frozen=True, slots=True)
class Problem:
    """What stands in a row beside the gold and the solution."""

    schema: str
    data: list[str]  # INSERTs, a text a database
    question: str
    ordered: bool
    shown: int  # rows of each table that the model sees

    def prompt(self) -> str:
        """What the model is asked: the schema, some rows of the first database, the question."""
        rows = _shown_rows(parse_inserts(self.data[0]), self.shown) if self.shown else []
        return "\n".join([self.schema, *rows, self.question, ASKED])


def example_of(row: Mapping[str, Any], row_id: str) -> Example:
    """Read a row of any of the three kinds.

    Raises:
        BadRow: a field is missing or of another type; the gold is not one SELECT; the data are
            something else than INSERTs of literals, or are one database.
    """
    if "sql_context" in row:
        problem, gold, solution = _of_gretel(row, row_id)
    else:
        problem, gold, solution = _of_ours(row, row_id)
    has_order = has_top_order(tokens(gold))
    if problem.ordered and not has_order:
        raise BadRow(row_id, "an ORDER BY in the gold of an ordered row", gold)
    judge = json.dumps(asdict(problem), ensure_ascii=False)
    return Example(row_id, problem.prompt(), gold, solution, judge)


def row_of(example: Example) -> dict[str, Any]:
    """The row that `example_of` reads back the same."""
    row: dict[str, Any] = json.loads(example.judge) | {"gold": example.gold}
    return row | {"solution": example.solution} if example.solution else row


@lru_cache(maxsize=64)
def job_of(judge: str, gold: str) -> Job:
    """What the engine needs to know about a problem."""
    fields = json.loads(judge)
    databases = [parse_inserts(text) for text in fields["data"]]
    return job_on(databases, judge, fields["schema"], gold, ordered=fields["ordered"])


def job_on(
    databases: Sequence[Sequence[Insert]], told: str, schema: str, gold: str, *, ordered: bool
) -> Job:
    """The same of databases that are read already; `told` tells them from all others."""
    return {
        "key": hashlib.sha256(f"{told}\0{gold}".encode("utf-8", "surrogatepass")).hexdigest(),
        "schema": schema,
        "data": [[(insert.statement(), insert.rows) for insert in one] for one in databases],
        "gold": gold,
        "ordered": ordered,
    }


def _of_ours(row: Mapping[str, Any], row_id: str) -> tuple[Problem, str, str]:
    schema = _schema(text_field(row, "schema", row_id), row_id)
    question = text_field(row, "question", row_id)
    data, gold = row.get("data"), _query(row, "gold", row_id)
    if not isinstance(data, list) or not all(isinstance(text, str) for text in data):
        raise BadRow(row_id, "a list of INSERTs, a text a database, in 'data'", data)
    if not 2 <= len(data) <= MAX_DATABASES:
        raise BadRow(row_id, f"2 to {MAX_DATABASES} databases in 'data'", len(data))
    ordered = row.get("ordered", has_top_order(tokens(gold)))
    if not isinstance(ordered, bool):
        raise BadRow(row_id, "true or false in 'ordered'", ordered)
    shown = row.get("shown", SHOWN_ROWS)
    if not isinstance(shown, int) or shown < 0:
        raise BadRow(row_id, "a number of rows in 'shown'", shown)
    for text in data:
        _inserts(text, row_id)
    solution = solution_field(row, row_id)
    return Problem(schema, data, question, ordered, shown), gold, solution


def _of_gretel(row: Mapping[str, Any], row_id: str) -> tuple[Problem, str, str]:
    context, question = (text_field(row, key, row_id) for key in ("sql_context", "sql_prompt"))
    gold = _query(row, "sql", row_id)
    parts = [(text, words[0].word) for text, words in statements(context)]
    schema = ";\n".join(text for text, verb in parts if verb == "CREATE")
    data = ";\n".join(text for text, verb in parts if verb != "CREATE")
    inserts = _inserts(data, row_id)
    if not inserts:
        raise BadRow(row_id, "rows to INSERT in 'sql_context'", context)
    databases = [data, *derived(inserts, tokens(gold), seed=context)]
    solution = row.get("sql_explanation")
    said = whole_text(solution.strip(), row_id) if isinstance(solution, str) else ""
    ordered = has_top_order(tokens(gold))
    return Problem(_schema(schema, row_id), databases, question, ordered, SHOWN_ROWS), gold, said


def _schema(text: str, row_id: str) -> str:
    if ("CREATE", "TABLE") not in pairwise(token.word for token in tokens(text)):
        raise BadRow(row_id, "CREATE TABLE in the schema", text)
    return text


def _query(row: Mapping[str, Any], key: str, row_id: str) -> str:
    gold = text_field(row, key, row_id).removesuffix(";").rstrip()
    if first_word(gold) not in QUERY_VERBS or len(list(statements(gold))) != 1:
        raise BadRow(row_id, f"one SELECT in {key!r}", gold)
    if len(gold) > MAX_SQL_CHARS:
        raise BadRow(row_id, f"at most {MAX_SQL_CHARS:,} characters in {key!r}", len(gold))
    return gold


def _inserts(text: str, row_id: str) -> list[Insert]:
    if len(text) > MAX_DATA_CHARS:
        raise BadRow(row_id, f"at most {MAX_DATA_CHARS:,} characters of INSERTs", len(text))
    try:
        return parse_inserts(whole_text(text, row_id))
    except NotLiteral as error:
        raise BadRow(row_id, "INSERTs of literals alone as data", str(error)) from error


def _shown_rows(inserts: Sequence[Insert], most: int) -> list[str]:
    tables: dict[str, list[str]] = {}
    for insert in inserts:
        cells = [", ".join(map(_shown_cell, row)) for row in insert.rows]
        tables.setdefault(insert.table.strip(QUOTES), []).extend(f"({row})" for row in cells)
    return [
        f"-- {table}, {min(most, len(rows))} of {len(rows)} rows: {', '.join(rows[:most])}"
        for table, rows in tables.items()
    ]


def _shown_cell(value: Value) -> str:
    text = literal(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."
