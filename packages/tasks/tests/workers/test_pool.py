"""Whatever a job does, the next one is answered, and nothing stays."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from xmlgrpo_tasks.workers.pool import Outcome, Pool, free_cores

FUNCTION = "sample_jobs:run"
ADD, SUM = {"do": "add", "numbers": [1, 2]}, Outcome(3)
WALL_S = 60.0  # a busy machine keeps a job waiting


@pytest.fixture(scope="module", autouse=True)
def _found():
    sys.path.insert(0, str(Path(__file__).parent))
    yield
    sys.path.remove(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def pool(_found):
    with Pool(FUNCTION, wall_s=WALL_S, memory_bytes=512 << 20) as opened:
        yield opened


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        pytest.param(ADD, SUM, id="an answer"),
        pytest.param({"do": "echo", "text": "\ud800é" * 50_000}, None, id="larger than a pipe"),
        pytest.param({"do": "crash"}, Outcome(why="killed by signal 11"), id="crashes"),
        pytest.param({"do": "exit"}, Outcome(why="ended with exit code 0"), id="exits"),
        pytest.param({"do": "raise"}, Outcome(why="ValueError: no such thing"), id="raises"),
        pytest.param({"do": "eat"}, Outcome(why="out of memory"), id="eats 8 GiB"),
        pytest.param({"do": "print"}, Outcome(), id="prints a MiB"),
        pytest.param(
            {"do": "environment"}, Outcome(["LANG", "PATH", "PYTHONHASHSEED"]), id="environment"
        ),
        pytest.param({"do": "descriptors"}, Outcome([0, 1, 2, 3, 4, 5]), id="descriptors"),
        pytest.param({"do": "core"}, Outcome(0), id="no core file"),
    ],
)
def test_a_job_has_its_outcome_and_its_neighbours_theirs(pool, monkeypatch, job, expected):
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")  # pragma: allowlist secret
    assert pool.map([ADD, job, ADD]) == [SUM, expected or Outcome(job["text"]), SUM]


@pytest.mark.usefixtures("_found")
def test_a_job_that_does_not_end_is_ended_and_its_neighbours_have_their_outcomes():
    with Pool(FUNCTION, wall_s=3, memory_bytes=512 << 20, workers=2) as pool:
        outcomes = pool.map([ADD, {"do": "sleep", "s": 600}, {"do": "spin"}, ADD])
    assert outcomes == [SUM, Outcome(why="timeout"), Outcome(why="timeout"), SUM]


@pytest.mark.usefixtures("_found")
def test_what_a_busy_machine_keeps_waiting_is_not_late():
    with Pool(FUNCTION, wall_s=60, cpu_s=0.3, memory_bytes=512 << 20, workers=1) as pool:
        jobs = [{"do": "sleep", "s": 0.5}, {"do": "spin"}, {"do": "spin"}, ADD]
        assert pool.map(jobs) == [Outcome(), Outcome(why="timeout"), Outcome(why="timeout"), SUM]


def test_a_worker_writes_no_file(pool, tmp_path):
    [outcome] = pool.map([{"do": "write", "path": str(tmp_path / "file")}])
    assert "File too large" in outcome.why
    assert (tmp_path / "file").stat().st_size == 0


def test_workers_are_kept_and_shared_by_threads(pool):
    sums: list[list[Outcome]] = []
    threads = [threading.Thread(target=lambda: sums.append(pool.map([ADD] * 50))) for _ in "1234"]
    pids = {outcome.value for outcome in pool.map([{"do": "pid"}] * 20)}
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [[SUM] * 50] * 4
    pids |= {outcome.value for outcome in pool.map([{"do": "pid"}] * 20)}
    assert len(pids) <= free_cores()


def test_a_closed_pool_leaves_no_process_and_may_be_used_again():
    with Pool(FUNCTION, wall_s=WALL_S, memory_bytes=512 << 20, workers=1, reuse=False) as pool:
        first, second = (outcome.value for outcome in pool.map([{"do": "pid"}] * 2))
        assert first != second
        [third] = pool.map([{"do": "pid"}])
    assert not any(map(psutil.pid_exists, (first, second, third.value)))
    assert pool.map([ADD]) == [SUM]
    pool.close()


def test_what_cannot_be_started_is_said():
    def broken(command, _files):
        return [command[0], "-c", "raise SystemExit('no such sandbox')"]

    with (
        Pool(FUNCTION, wall_s=1, memory_bytes=1 << 30, wrap=broken) as pool,
        pytest.raises(RuntimeError, match="no such sandbox"),
    ):
        pool.map([ADD])


PARENT = """
import sys
from xmlgrpo_tasks.workers.pool import Pool
pool = Pool("sample_jobs:run", wall_s=0.2, memory_bytes=1 << 29, workers=1)
while (worker := pool.map([{"do": "pid"}])[0].value) is None:
    pass  # it was late
print(worker, flush=True)
if sys.argv[1] == "busy":
    sys.stdin.readline()
    pool.map([{"do": "spin"}])
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("state", "how"),
    [
        pytest.param("busy", signal.SIGKILL, id="killed while busy"),
        pytest.param("busy", signal.SIGTERM, id="terminated while busy"),
        pytest.param("busy", signal.SIGINT, id="interrupted while busy"),
        pytest.param("idle", None, id="at its end"),
    ],
)
def test_workers_end_with_the_process(state, how):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, state],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    ) as parent:
        assert parent.stdout
        worker = psutil.Process(int(parent.stdout.readline()))
        assert parent.stdin
        if how:
            parent.stdin.write(b"\n")  # not before: what spins is killed after 0.2 s
            parent.stdin.flush()
            time.sleep(0.1)
            parent.send_signal(how)
        parent.stdin.close()
    until = time.monotonic() + 60
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "a worker outlives its process"
        time.sleep(0.02)
