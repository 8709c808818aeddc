"""A child process ends within its limits, tells how far it is, and sees no tokens and no GPU."""

import os
import signal
import threading
import time

import pytest

from xmlgrpo_gguf.sandbox import DROPPED, run_child


@pytest.mark.parametrize(
    ("script", "timeout_s", "why", "said"),
    [
        pytest.param("print('fine')", 60, "", "fine", id="fine"),
        pytest.param("import sys; sys.exit('no')", 60, "ended with exit code 1", "no", id="fails"),
        pytest.param("import os; os.abort()", 60, "was killed by signal 6", "", id="aborts"),
        pytest.param(
            "b = bytearray(1 << 40)", 60, "ended with exit code 1", "MemoryError", id="greedy"
        ),
        pytest.param("while True: pass", 1, "took longer than 1 s", "", id="never-ends"),
    ],
)
def test_children_end_one_way_or_another(tmp_path, script, timeout_s, why, said):
    log = tmp_path / "log"
    ended = run_child(["-c", script], log=log, timeout_s=timeout_s, memory_bytes=1 << 30)
    assert ended.why == why
    assert said in ended.log_tail


def test_children_see_no_tokens_and_no_gpu(tmp_path, monkeypatch):
    for name in DROPPED:
        monkeypatch.setenv(name, "hf_secret")
    script = (
        "import os; print('hf_secret' in str(os.environ), repr(os.environ['CUDA_VISIBLE_DEVICES']))"
    )
    ended = run_child(["-c", script], log=tmp_path / "log", timeout_s=60)
    assert ended.log_tail.split() == ["False", "''"]


def test_the_limits_are_there_before_the_first_line(tmp_path, monkeypatch):
    """Not set from outside on a process that runs already: a moment without limits."""
    monkeypatch.delattr("resource.prlimit", raising=False)
    script = "from resource import *; print(getrlimit(RLIMIT_AS), getrlimit(RLIMIT_CPU))"
    ended = run_child(
        ["-c", script], log=tmp_path / "log", timeout_s=60, cpu_s=7, memory_bytes=1 << 30
    )
    assert ended.last_line == f"{(1 << 30, 1 << 30)} (7, 7)"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("while True: pass", id="time"),
        pytest.param("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", id="memory"),
    ],
)
def test_what_the_kernel_ends_is_told_as_too_much(tmp_path, script):
    ended = run_child(["-c", script], log=tmp_path / "log", timeout_s=60, cpu_s=1)
    assert ended.why == "ran out of memory or CPU time (signal 9)"


def test_ctrl_c_ends_the_child(tmp_path):
    script = f"import os, time; print(os.getpid(), file=open({str(tmp_path / 'pid')!r}, 'w'), "
    script += "flush=True); time.sleep(60)"

    def interrupt() -> None:
        while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_child(["-c", script], log=tmp_path / "log", timeout_s=60)
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
