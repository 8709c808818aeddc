"""From a reply to its grade: the query in it, run in a worker on every database of the row."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_rewards.task import Example, Grade
from xmlgrpo_tasks.sql.engine import MAX_SQL_CHARS, QUERY_VERBS, Job, first_word, wrong
from xmlgrpo_tasks.sql.rows import job_of
from xmlgrpo_tasks.workers.pool import Pool

# A query only computes: that is counted, and not how long a busy machine keeps it waiting.
CPU_S, WALL_S = 1.0, 30.0
MEMORY_BYTES = 512 << 20
NOTE_COLUMNS = 200  # SQLite quotes the query in its errors
EXECUTES = "executes"
NO_QUERY = wrong(1, "no query in the reply")
SEARCHED_CHARS = 16_384  # the end of a reply without an answer block
LANGUAGES = ("", "sql", "sqlite")  # of a fence around a query
_BREAK = re.compile("|".join([r"```\w*", ";", r"\n[ \t]*\n", *map(re.escape, reply.TAGS)]))
_COMMENT_LINE = re.compile(r"^[ \t]*--[^\n]*", re.MULTILINE)
# what is no query is taken for the answer, too: the query inside of it is not
OTHER_VERBS = (
    *("ALTER", "ANALYZE", "ATTACH", "BEGIN", "CREATE", "DELETE", "DETACH", "DROP", "EXPLAIN"),
    *("INSERT", "PRAGMA", "REINDEX", "REPLACE", "UPDATE", "VACUUM", "VALUES"),
)
_CTE = r'WITH\s+(?:RECURSIVE\s+)?["\w]+\s*(?:\([^()]*\)\s*)?AS'
_STATEMENT = rf"(?:SELECT|{_CTE}|{'|'.join(OTHER_VERBS)})\b"
_ON_ITS_LINE = re.compile(rf"^[ \t>*]*({_STATEMENT})", re.IGNORECASE | re.MULTILINE)
_IN_A_LINE = re.compile(rf"\b({_STATEMENT})", re.IGNORECASE)


class Query(NamedTuple):
    """The query of a reply."""

    sql: str
    bare: bool  # it is all that stands in the answer block, without fence and semicolon
    in_block: bool  # it is all that stands there, or with them


def grade_many(texts: Sequence[str], examples: Sequence[Example]) -> list[Grade]:
    """Grade replies, as many at a time as there are workers.  Never raises for what they hold."""
    replies = [reply.parse(text) for text in texts]
    queries = [query_in(read) for read in replies]
    asked = {
        i: job_of(example.judge, example.gold) | {"queries": [query.sql]}
        for i, (query, example) in enumerate(zip(queries, examples, strict=True))
        if query and len(query.sql) <= MAX_SQL_CHARS
    }
    answers = judged(list(asked.values()))
    outcomes = {i: answer["outcomes"][0] for i, answer in zip(asked, answers, strict=True)}
    not_asked = wrong(1, f"over {MAX_SQL_CHARS:,} characters")
    return [
        _grade(read, query, outcomes.get(i, not_asked) if query else NO_QUERY)
        for i, (read, query) in enumerate(zip(replies, queries, strict=True))
    ]


def _grade(read: reply.Reply, query: Query | None, outcome: Mapping[str, Any]) -> Grade:
    right = outcome["right"]
    return Grade(
        strict_correct=read.strict and all(right) and query is not None and query.bare,
        lenient_correct=all(right) or outcome["permuted"],
        strict_format=read.strict,
        soft_format=read.soft,
        answered=query is not None,
        answer=query.sql if query else None,
        note=one_line(outcome["why"], NOTE_COLUMNS),
        share=sum(right) / len(right),
        parts=frozenset({EXECUTES} if outcome["executes"] and query and query.in_block else ()),
    )


def judged(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The engine's answer to each job; where a worker had to be killed, an answer that says so."""
    return [
        done.value if done.value is not None else _killed(job, done.why)
        for job, done in zip(jobs, worker_pool().map(jobs) if jobs else [], strict=True)
    ]


def _killed(job: Job, why: str) -> dict[str, Any]:
    return {"fault": why, "outcomes": [wrong(len(job["data"]), why)] * len(job["queries"])}


@cache
def worker_pool() -> Pool:
    """The workers of this process, started by the first job."""
    return Pool(
        "xmlgrpo_tasks.sql.engine:run_in_worker",
        wall_s=WALL_S,
        cpu_s=CPU_S,
        memory_bytes=MEMORY_BYTES,
    )


def query_in(read: reply.Reply) -> Query | None:
    """The query that a reply settles on.

    What stands in the answer block, also in a fence or before one semicolon; where that is not SQL,
    or there is no such block, the last statement that is found.
    """
    if read.answer is not None:
        if _is_sql(read.answer) and not read.answer.endswith(";"):
            return Query(read.answer, bare=True, in_block=True)
        inside = _unwrapped(read.answer)
        if _is_sql(inside):
            return Query(inside, bare=False, in_block=True)
    searched = read.text if read.answer is None else read.answer
    for piece in reversed(_BREAK.split(_COMMENT_LINE.sub("", searched[-SEARCHED_CHARS:]))):
        if found := _ON_ITS_LINE.search(piece) or _IN_A_LINE.search(piece):
            sql = piece[found.start(1) :].rstrip(" \n\t.`*")
            return Query(sql, bare=False, in_block=False)
    return None


def _is_sql(text: str) -> bool:
    return first_word(text) in (*QUERY_VERBS, *OTHER_VERBS)


def _unwrapped(answer: str) -> str:
    """Without one fence and one semicolon."""
    language, inside = reply.fenced(answer) or ("", answer)
    if language.strip().lower() not in LANGUAGES:
        return answer
    return inside.strip().removesuffix(";").rstrip()
