"""A Python process with a time limit, of which the end and the last words are kept."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KEPT_LINES = 60
LOOK_S = 0.1  # between two looks whether a child has saved and ended

# Nothing is downloaded, and one GPU is used: Unsloth compiles with a single worker where the
# devices are not named by this variable.
ALWAYS = {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": "0"}

_running: dict[int, float] = {}
"""By process, the seconds that it gets for saving when all are ended."""
_ending = threading.Event()


def run_child(
    script: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    limit_s: float,
    grace_s: float = 0,
) -> dict[str, Any]:
    """Run `python script...` to its end, or to the limit.

    Args:
        script: a file, or -m and a module of this tree, and its arguments.
        cwd: where it runs.
        environment: variables beside this process's.
        limit_s: after so many seconds it is killed, with what it started.
        grace_s: it is told so many seconds before the limit (SIGTERM), to save what it has; so it
            is when this process is ended.

    Returns:
        `exit_code`, `ending` in words, `seconds` and `last_lines` of its output.

    Raises:
        SystemExit: this process is being ended, and its children with it.
    """
    end_with_this_process()
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    variables = {**ALWAYS, **os.environ, **environment}
    variables["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    log = cwd / f"{time.monotonic_ns()}.log"
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as writing:
        process = subprocess.Popen(
            [sys.executable, *script],
            cwd=cwd,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _running[process.pid] = grace_s
        try:
            code, is_told = _wait(process, limit_s, grace_s)
            ending = f"{'told to stop, ' if is_told else ''}exit code {code}"
        except subprocess.TimeoutExpired:
            _kill(process.pid)
            code = process.wait()
            ending = f"stopped after {limit_s:.0f} s"
        finally:
            _running.pop(process.pid, None)
    if _ending.is_set():
        raise SystemExit(1)  # what was killed has no result
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    log.unlink()
    return {
        "exit_code": code,
        "ending": ending,
        "seconds": round(time.monotonic() - began, 1),
        "last_lines": lines[-KEPT_LINES:],
    }


def _wait(process: subprocess.Popen[bytes], limit_s: float, grace_s: float) -> tuple[int, bool]:
    """The exit code, and whether it was told to stop; raises TimeoutExpired at the limit."""
    try:
        return process.wait(limit_s - grace_s), False
    except subprocess.TimeoutExpired:
        if not grace_s:
            raise
    process.terminate()
    return process.wait(grace_s), True


def end_with_this_process() -> None:
    """Have Ctrl-C and a polite kill end the children too: a session of their own hides both.

    `run_child` does it; who calls that from other threads alone calls this from the main one.
    """
    if _ending.is_set():
        raise SystemExit(1)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end_all)
        signal.signal(signal.SIGTERM, _end_all)


def _end_all(number: int, _frame: Any) -> None:
    is_second = _ending.is_set()  # who asks twice does not wait
    _ending.set()
    saving = {} if is_second else {child: grace for child, grace in _running.items() if grace}
    for child in saving:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    last = time.monotonic() + max(saving.values(), default=0)
    while any(map(_is_alive, saving)) and time.monotonic() < last:
        time.sleep(LOOK_S)
    for child in tuple(_running):
        _kill(child)
    raise SystemExit(128 + number)


def _is_alive(child: int) -> bool:
    with suppress(ChildProcessError):  # its end was waited for already
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    return False


def _kill(child: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
