"""Runs a SELECT on the databases of one row and compares: what happens inside a worker process.

Standard library only and nothing of this package, since the pool loads this file by itself.  The
fences, from the outside in: the kernel bounds the process's CPU time and memory; SQLite's heap,
lengths and steps are bounded; an authorizer lets a query read the row's own tables and call the
functions named here, nothing else.

Every second database is filled in reverse: a query that leans on the order in which rows happen to
lie is right by chance on one of them only.
"""

import re
import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

Cell = int | float | str | tuple[str, bytes] | None
Row = tuple[Cell, ...]
Job = dict[str, Any]

QUERY_VERBS = ("SELECT", "WITH")
MAX_SQL_CHARS = 4096
MAX_ROWS = 1000
MAX_RESULT_BYTES = 1 << 20
MAX_STEPS = 2_000_000  # of SQLite's virtual machine; some 100 ms
STEPS_A_LOOK = 1000
MAX_FREE_COLUMNS = 6  # of which all orders are tried
DIGITS = 10  # that two numbers must share, if not both are whole
HEAP_BYTES = 32 << 20
KEPT_ROWS = 8  # whose databases a worker keeps; the largest allowed leave room in the heap
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 20_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 20_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
CLOCK = frozenset({"date", "datetime", "julianday", "strftime", "time", "unixepoch"})
NOT_TWICE_THE_SAME = frozenset({"now", "localtime", "utc", "subsec", "subsecond"})
FUNCTIONS = CLOCK | {
    *("avg", "count", "group_concat", "max", "min", "string_agg", "sum", "total"),
    *("abs", "coalesce", "concat", "concat_ws", "glob", "hex", "if", "ifnull", "iif", "instr"),
    *("length", "like", "lower", "ltrim", "nullif", "replace", "round", "rtrim", "sign", "substr"),
    *("substring", "trim", "typeof", "unicode", "upper"),
    *("ceil", "ceiling", "exp", "floor", "ln", "log", "log10", "log2", "mod", "pi", "pow", "power"),
    *("sqrt", "trunc"),
    *("cume_dist", "dense_rank", "first_value", "lag", "last_value", "lead", "nth_value", "ntile"),
    *("percent_rank", "rank", "row_number"),
}
READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE})
BUILDING = READING | {
    *(sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_CREATE_INDEX),
    *(sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_READ, sqlite3.SQLITE_REINDEX),
    sqlite3.SQLITE_TRANSACTION,
}
VERDICTS = (sqlite3.SQLITE_DENY, sqlite3.SQLITE_OK)  # for what may not be, and for what may
FAILURES = (sqlite3.Error, sqlite3.Warning, MemoryError, OverflowError, ValueError)
ROWID_ALIAS = re.compile(r"\bINTEGER(\s+PRIMARY\s+KEY)(?:\s+AUTOINCREMENT)?\b", re.IGNORECASE)


class Refused(Exception):  # noqa: N818 - a verdict on what was asked, not a fault of ours
    """A query, a schema or a row that is not run to its end; the text says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a query gave, each cell as it is compared."""

    width: int
    rows: list[Row]


@dataclass(slots=True)
class Database:
    """One database of a row, open to reading its tables."""

    connection: sqlite3.Connection
    tables: frozenset[str] = frozenset()
    refusal: str = ""  # why a function of ours gave up
    read: set[str] = field(default_factory=set)  # the tables that the last query reads


@dataclass(frozen=True, slots=True)
class Prepared:
    """A row's databases with what the gold gives on each; `fault` says why there is none."""

    databases: list[Database]
    golds: list[Result]
    fault: str = ""


_prepared: OrderedDict[str, Prepared] = OrderedDict()
_alone = sqlite3.connect(":memory:", check_same_thread=False)  # computes dates, holds nothing


def run_in_worker(job: Job) -> dict[str, Any]:
    """`run` with a limit on SQLite's heap, which is the process's and cannot be taken back."""
    _alone.execute(f"PRAGMA hard_heap_limit = {HEAP_BYTES}")
    return run(job)


def run(job: Job) -> dict[str, Any]:
    """Compare queries with the gold of a row.

    Args:
        job: `key` (stands for the row), `schema`, `data` (a list a database, of pairs: an INSERT
            with question marks, its rows), `gold`, `ordered`, `queries`; `check` asks for more
            about the gold.

    Returns:
        `fault`: why the gold itself cannot be used, or ""; `outcomes`: a dict a query.  With
        `check` also `sizes`, the rows of the gold a database; `differ`, whether these results do;
        and, where they do and no query is right, `stable`: whether the gold gives the same when
        the tables are filled the other way round.
    """
    prepared = _prepared.get(job["key"])
    if prepared is None:
        prepared = _prepared[job["key"]] = _prepare(job)
        if len(_prepared) > KEPT_ROWS:
            _close(_prepared.popitem(last=False)[1])
    _prepared.move_to_end(job["key"])
    outcomes = [_outcome(sql, job, prepared) for sql in job["queries"]]
    answer: dict[str, Any] = {"fault": prepared.fault, "outcomes": outcomes}
    if job.get("check") and not prepared.fault:
        answer["sizes"] = [len(gold.rows) for gold in prepared.golds]
        answer["differ"] = any(
            not _same(gold, prepared.golds[0], ordered=job["ordered"])
            for gold in prepared.golds[1:]
        )
        if answer["differ"] and not any(all(outcome["right"]) for outcome in outcomes):
            answer["stable"] = _is_stable(job, prepared.golds)
    return answer


def gold_rows(job: Job, number: int) -> list[list[int | float | str | None]]:
    """What the gold gives on one database, each blob as NULL; nothing where it cannot be used."""
    prepared = _prepare(job)
    _close(prepared)
    rows = [] if prepared.fault else prepared.golds[number].rows
    return [[None if isinstance(cell, tuple) else cell for cell in row] for row in rows]


def _is_stable(job: Job, golds: Sequence[Result]) -> bool:
    mirrored = _prepare(job, mirrored=True)
    _close(mirrored)
    return not mirrored.fault and all(
        _same(*pair, ordered=job["ordered"]) for pair in zip(mirrored.golds, golds, strict=True)
    )


def _prepare(job: Job, *, mirrored: bool = False) -> Prepared:
    databases: list[Database] = []
    try:
        for number, data in enumerate(job["data"]):
            backwards = bool(number % 2) != mirrored
            databases.append(_build(job["schema"], data, backwards=backwards))
        return Prepared(databases, [_result(job["gold"], database) for database in databases])
    except Refused as refused:
        return Prepared(databases, [], str(refused))


def _close(prepared: Prepared) -> None:
    for database in prepared.databases:
        database.connection.close()


def _build(schema: str, data: Sequence[tuple[str, list[Row]]], *, backwards: bool) -> Database:
    # no cached statements: the authorizer is asked about every query, also the second time
    connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
    connection.text_factory = lambda raw: raw.decode("utf-8", errors="surrogateescape")
    connection.execute("PRAGMA temp_store = MEMORY")  # a large sort writes no file
    for limit, most in LIMITS.items():
        connection.setlimit(limit, most)
    database = Database(connection)
    for name in CLOCK:
        connection.create_function(name, -1, _clock(name, database), deterministic=True)
    connection.set_authorizer(_may_build)
    # an alias of the row number would put rows in the order of their ids however they are filled
    ddl = ROWID_ALIAS.sub(r"INT\1", schema) if backwards else schema
    try:
        with _bounded(connection):
            connection.executescript(ddl)
            connection.execute("BEGIN")
            for insert, rows in data:
                connection.executemany(insert, rows[::-1] if backwards else rows)
            connection.execute("COMMIT")
    except FAILURES as error:
        connection.close()
        raise Refused(f"its database cannot be built: {_said(error)}") from error
    names = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    database.tables = frozenset(name.lower() for (name,) in names)
    connection.set_authorizer(lambda *asked: _may_read(database, *asked))
    return database


def _may_build(action: int, _first: str | None, name: str | None, *_: object) -> int:
    is_known = action == sqlite3.SQLITE_FUNCTION and (name or "").lower() in FUNCTIONS
    return VERDICTS[action in BUILDING or is_known]


def _may_read(
    database: Database, action: int, first: str | None, second: str | None, *_: object
) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        return VERDICTS[(second or "").lower() in FUNCTIONS]
    if action == sqlite3.SQLITE_READ:
        table = (first or "").lower()
        if table in database.tables:
            database.read.add(table)
        # without a column it may be the name that WITH gives to a query
        named = not second and not table.startswith("sqlite_")
        return VERDICTS[table in database.tables or named]
    return VERDICTS[action in READING]


def _clock(name: str, database: Database) -> Callable[..., Any]:
    """SQLite's function of that name, on what is given: the time of day is not an answer."""
    needed = 2 if name == "strftime" else 1

    def call(*given: Any) -> Any:
        words = {value.strip().lower() for value in given if isinstance(value, str)}
        if len(given) < needed or words & NOT_TWICE_THE_SAME:
            database.refusal = f"{name}() of the present time or zone is refused"
            raise ValueError
        marks = ",".join("?" * len(given))
        return _alone.execute(f"SELECT {name}({marks})", given).fetchone()[0]

    return call


@contextmanager
def _bounded(connection: sqlite3.Connection) -> Iterator[None]:
    """Interrupts what takes more than `MAX_STEPS`."""
    left = MAX_STEPS // STEPS_A_LOOK

    def look() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    connection.set_progress_handler(look, STEPS_A_LOOK)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def _result(sql: str, database: Database) -> Result:
    """What a query gives.

    Raises:
        Refused: it fails, is not one SELECT, or goes beyond a limit.
    """
    if len(sql) > MAX_SQL_CHARS:
        raise Refused(f"longer than {MAX_SQL_CHARS:,} characters")
    if first_word(sql) not in QUERY_VERBS:
        raise Refused("not a SELECT")
    database.read.clear()
    database.refusal = ""
    rows: list[Row] = []
    room = MAX_RESULT_BYTES
    cursor = database.connection.cursor()
    try:
        with _bounded(database.connection):
            for row in cursor.execute(sql):
                room -= sum(len(cell) if isinstance(cell, str | bytes) else 8 for cell in row)
                if len(rows) == MAX_ROWS or room < 0:
                    raise Refused(f"more than {MAX_ROWS:,} rows or {MAX_RESULT_BYTES:,} bytes")
                rows.append(tuple(map(_cell, row)))
    except FAILURES as error:
        raise Refused(database.refusal or _said(error)) from error
    finally:
        width = len(cursor.description or ())
        cursor.close()
    return Result(width, rows)


def first_word(sql: str) -> str:
    """The first word after comments and white space, in upper case; of a long text its start."""
    rest = sql[:MAX_SQL_CHARS].lstrip()
    while rest.startswith(("--", "/*")):
        end = "\n" if rest.startswith("--") else "*/"
        rest = rest.partition(end)[2].lstrip()
    word = re.match(r"\w*", rest)
    return word.group().upper() if word else ""


def _said(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    text = str(error)
    if text == "interrupted":
        return f"more than {MAX_STEPS:,} steps"
    return f"error: {text}" if text else f"error: {type(error).__name__}"


def _cell(value: Any) -> Cell:
    """A value as it is compared: by its class, whole numbers exactly, others to `DIGITS` digits."""
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        return float(f"{round(value, DIGITS):.{DIGITS}g}")
    if isinstance(value, bytes):
        return ("blob", value)
    cell: Cell = value
    return cell


def _same(one: Result, other: Result, *, ordered: bool) -> bool:
    if one.width != other.width or len(one.rows) != len(other.rows):
        return False
    return one.rows == other.rows if ordered else Counter(one.rows) == Counter(other.rows)


def wrong(databases: int, why: str) -> dict[str, Any]:
    """How a query fares that gives nothing."""
    return {"why": why, "executes": False, "right": [False] * databases, "permuted": False}


def _outcome(sql: str, job: Job, prepared: Prepared) -> dict[str, Any]:
    """How a query fares.

    Returns:
        `why` it is not right, or ""; `executes`: it runs everywhere, reads a table and has as many
        columns as the gold; `right`, a bool a database; `permuted`: it is right everywhere once its
        columns are put in another order.
    """
    if prepared.fault:
        return wrong(len(job["data"]), f"the gold cannot be used: {prepared.fault}")
    try:
        results = [_result(sql, database) for database in prepared.databases]
    except Refused as refused:
        return wrong(len(job["data"]), str(refused))
    pairs, ordered = list(zip(results, prepared.golds, strict=True)), job["ordered"]
    width, expected = results[0].width, prepared.golds[0].width
    right = [_same(result, gold, ordered=ordered) for result, gold in pairs]
    why = ""
    if width != expected:
        why = f"{width} columns instead of {expected}"
    elif not all(right):
        why = f"wrong on {right.count(False)} of {len(right)} databases"
    return {
        "why": why,
        "executes": width == expected and bool(prepared.databases[0].read),
        "right": right,
        "permuted": not why or (width == expected and _permuted(pairs, ordered=ordered)),
    }


def _permuted(pairs: list[tuple[Result, Result]], *, ordered: bool) -> bool:
    width = pairs[0][0].width
    if not 1 < width <= MAX_FREE_COLUMNS or any(len(a.rows) != len(b.rows) for a, b in pairs):
        return False
    held = [[_columns(result) for result in pair] for pair in pairs]
    return any(
        all(all(ours[place] == theirs[i] for i, place in enumerate(order)) for ours, theirs in held)
        and all(
            _same(
                Result(width, [tuple(row[i] for i in order) for row in a.rows]), b, ordered=ordered
            )
            for a, b in pairs
        )
        for order in permutations(range(width))
    )


def _columns(result: Result) -> list[Counter[Cell]]:
    """How often each column holds each value."""
    return [Counter(row[i] for row in result.rows) for i in range(result.width)]
