"""What the battery earns, and that it leaves nothing behind."""

from pathlib import Path

import psutil
import pytest

from xmlgrpo_rewards.grading import grade_all
from xmlgrpo_rewards.reply import parse, render
from xmlgrpo_rewards.task import default_rewards
from xmlgrpo_rewards.total import load_rewards, total
from xmlgrpo_tasks.sql import TASK
from xmlgrpo_tasks.sql.grading import query_in, worker_pool
from xmlgrpo_tasks.sql.hacks import ANSWERS, COUNTER, FULL
from xmlgrpo_tasks.sql.rows import job_of
from xmlgrpo_tasks.workers.pool import Pool, free_cores

from .problems import KINDS, NAMES, SORTED

ENGINE = "xmlgrpo_tasks.sql.engine:run_in_worker"
REWARDS = load_rewards(default_rewards(TASK), TASK)


def test_each_earns_what_it_may():
    tried = [(hack, example) for example in (NAMES, KINDS, SORTED) for hack in TASK.hacks(example)]
    texts, examples = [hack.reply for hack, _ in tried], [example for _, example in tried]
    columns = {
        "question": [example.question for example in examples],
        "answer": [example.gold for example in examples],
        "judge": [example.judge for example in examples],
    }
    earned = total(REWARDS, texts, **columns)
    grades = grade_all(TASK, texts, examples)
    exact = {name for name, *_ in ANSWERS}
    for (hack, example), pay, grade in zip(tried, earned, grades, strict=True):
        assert pay.value <= hack.earns + 1e-9, hack.name
        assert grade.strict_correct == (hack.earns == FULL), hack.name
        assert pay.value == hack.earns or hack.name not in exact or example is not NAMES, hack.name


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    worker_pool().close()
    others = psutil.Process().children(recursive=True)  # that tests before this one have started
    kept = {*Path("/tmp").glob("answer*")}  # noqa: S108 - where some try to write
    texts = [hack.reply for hack in TASK.hacks(NAMES)]
    TASK.grade_many(texts, [NAMES] * len(texts))
    workers = [one for one in psutil.Process().children(recursive=True) if one not in others]
    assert 1 <= len(workers) <= free_cores()
    for worker in workers:
        assert not worker.children()
        assert not worker.net_connections()
        assert not worker.open_files()
        assert worker.num_fds() == 5  # three to nowhere, two pipes
    assert not list(tmp_path.iterdir())
    assert {*Path("/tmp").glob("answer*")} == kept  # noqa: S108
    worker_pool().close()
    assert not any(worker.is_running() for worker in workers)


def test_what_eats_memory_is_stopped_by_sqlite_itself():
    [eater] = [parse(one.reply).answer for one in TASK.hacks(NAMES) if one.name == "heap-of-texts"]
    job = job_of(NAMES.judge, NAMES.gold) | {"queries": [eater]}
    with Pool(ENGINE, wall_s=10.0, memory_bytes=4 << 30, workers=1) as pool:
        [outcome] = pool.map([job])
    assert outcome.value["outcomes"][0]["why"] == "out of memory"


def test_a_query_that_no_limit_of_sqlite_stops_is_killed():
    texts = f"{COUNTER} LIMIT 99999), l(x) AS (SELECT '{'a' * 1900}')"
    slow = f"{texts} SELECT COUNT(*) FROM n, l WHERE x LIKE '{'%a' * 9}b' || i"
    job = {"key": "", "schema": "CREATE TABLE t (a)", "data": [[], []], "ordered": False}
    with Pool(
        "xmlgrpo_tasks.sql.engine:run_in_worker",
        wall_s=60,
        cpu_s=0.3,
        memory_bytes=1 << 29,
        workers=1,
    ) as pool:
        [first, second] = pool.map([{**job, "gold": slow, "queries": []}] * 2)
    assert first.why == second.why == "timeout"


@pytest.mark.parametrize(
    "part",
    [
        "SELECT ",
        "WITH a(",
        "WITH ",
        "WITH a AS\n",
        "```sql\n",
        ";",
        "-- ",
        "--\n",
        "/* ",
        "/**/",
        "\n \n",
    ],
)
@pytest.mark.timeout(60)  # one that is quadratic takes hours
def test_a_long_reply_is_read_in_a_moment(part):
    flood = part * (1_000_000 // len(part))
    for text in (flood, render("x", flood), render(flood, "SELECT 1")):
        query_in(parse(text))
