"""Before a row is trained or measured on: is its gold sound, and can its databases tell?

A query one small mistake away from the gold must lose on some database: the idea of Zhong et al.
2020, "Semantic Evaluation for Text-to-SQL with Distilled Test Suites", arXiv 2010.02840.  The
mistakes are made on words instead of a syntax tree: what is no SQL any more simply fails.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xmlgrpo_rewards.task import Example
from xmlgrpo_tasks.sql.engine import Job
from xmlgrpo_tasks.sql.grading import judged
from xmlgrpo_tasks.sql.lexer import Token, tokens
from xmlgrpo_tasks.sql.rows import job_of
from xmlgrpo_tasks.workers.child import TIMEOUT

TRIES = 3  # at a check that is late: a busy machine refuses no row
CLAUSES = frozenset({"WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION", "INTERSECT", "EXCEPT"})
DROPPED = frozenset({"WHERE", "HAVING", "LIMIT"})
FORGOTTEN = frozenset({"DISTINCT", "NOT", "LEFT", "ALL"})
EXCHANGED = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "MAX": "MIN",
    "MIN": "MAX",
    "SUM": "AVG",
    "AVG": "SUM",
    "DESC": "ASC",
    "ASC": "DESC",
}


def gold_fault(example: Example) -> str | None:
    """Why a row cannot be trained or measured on, in one sentence; None when it can."""
    job = job_of(example.judge, example.gold)
    check = checked(job)
    for _ in range(TRIES):
        [answer] = judged([check])
        if answer["fault"] != TIMEOUT:
            break
    return fault_of(check, answer)


def checked(job: Job) -> Job:
    """The job that asks the engine about a problem's gold, and about queries one mistake away."""
    wrong = mutants(job["gold"], ordered=job["ordered"])
    return job | {"queries": [sql for _, sql in wrong], "check": True}


def fault_of(check: Job, answer: Mapping[str, Any]) -> str | None:
    """What the engine's answer to `checked` says against a problem; None where that is nothing."""
    gold = f"the gold {check['gold']!r}"
    if answer["fault"]:
        return f"{gold} cannot be used: {answer['fault']}"
    if not any(answer["sizes"]):
        return f"{gold} finds no row in any of the {len(answer['sizes'])} databases"
    if not answer["differ"]:
        return f"{gold} gives the same in every database, so that a constant would be paid"
    wrong = mutants(check["gold"], ordered=check["ordered"])
    for (mistake, sql), outcome in zip(wrong, answer["outcomes"], strict=True):
        if all(outcome["right"]):
            return f"the databases cannot tell {gold} from {sql!r} ({mistake})"
    if not answer["stable"]:
        return f"{gold} gives another result when the tables are filled in another order"
    return None


def mutants(sql: str, *, ordered: bool) -> Iterator[tuple[str, str]]:
    """Queries one mistake away from `sql`, each after the mistake in words.

    Args:
        sql: the gold.
        ordered: whether the order of its rows counts; of a part of a query it counts before LIMIT.
    """
    words = tokens(sql)
    for i, token in enumerate(words):
        word = token.word
        if word in EXCHANGED:
            yield f"{EXCHANGED[word]} for {word}", _without(sql, token, token, EXCHANGED[word])
        elif word in FORGOTTEN:
            yield f"no {word}", _without(sql, token, token)
        elif word in DROPPED:
            yield f"no {word}", _without(sql, token, words[_end(words, i) - 1])
        elif word == "UNION" and words[i + 1 : i + 2] and words[i + 1].word != "ALL":
            yield "UNION ALL for UNION", _without(sql, token, token, "UNION ALL")
        elif word == "ORDER":
            end = _end(words, i)
            limited = end < len(words) and words[end].word == "LIMIT"
            if limited or (ordered and token.depth == 0):
                yield "no ORDER BY", _without(sql, token, words[end - 1])
        elif word in ("AND", "OR") and not _is_of_between(words, i):
            last = words[_end(words, i, "AND", "OR") - 1]
            yield f"no {sql[token.start : last.end]}", _without(sql, token, last)


def _without(sql: str, first: Token, last: Token, instead: str = "") -> str:
    return f"{sql[: first.start]}{instead}{sql[last.end :]}"


def _end(words: Sequence[Token], start: int, *also: str) -> int:
    """Where the clause that begins at `start` ends: at the next one beside it or with its place."""
    depth = words[start].depth
    for i in range(start + 1, len(words)):
        token = words[i]
        beside = token.depth == depth and token.word in {*CLAUSES, *also}
        if token.depth < depth or (beside and not _is_of_between(words, i)):
            return i
    return len(words)


def _is_of_between(words: Sequence[Token], at: int) -> bool:
    """Whether the word at `at` is the AND of a BETWEEN."""
    if words[at].word != "AND":
        return False
    for token in reversed(words[:at]):
        if token.depth == words[at].depth and token.word in ("BETWEEN", "AND", "OR", "WHERE"):
            return token.word == "BETWEEN"
    return False
