"""A child process for what reads foreign files: limits on memory and time, no tokens, no GPU.

llama.cpp and its converter are C++ and other people's scripts, and a chat template is a program: a
crash, an endless loop or a full memory there must cost us a child, not the command.

    python -m xmlgrpo_gguf.sandbox CPU_SECONDS BYTES ARGUMENTS...   # limits first, then Python
"""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLL_S = 0.2
TAIL_CHARS = 2000
OUT_OF_TIME = {signal.SIGKILL, signal.SIGXCPU}  # what the kernel ends a process with

# Tokens must not reach a child that reads foreign files.
DROPPED = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "PYTHONPATH", "NO_LOCAL_GGUF")
# A GPU build of llama.cpp reserves address space for the devices that it sees, more than any sound
# memory limit; and where it fails it would start a debugger.
SET = {
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "",
    "GGML_VK_VISIBLE_DEVICES": "",
    "GGML_NO_BACKTRACE": "1",
}


def start_child(
    command: Sequence[str],
    *,
    cpu_s: int | None,
    memory_bytes: int | None,
    environment: Mapping[str, str] | None = None,
    **streams: Any,
) -> "subprocess.Popen[bytes]":
    """Start Python under limits that the kernel keeps, even when this process is killed outright.

    The child sets them before it runs a line of `command`.

    Args:
        command: arguments for the Python that runs us.
        cpu_s: CPU seconds, of all its threads together; None for no limit.
        memory_bytes: address space it may have (Linux only); None for no limit.
        streams: `stdin`, `stdout` and what else `subprocess.Popen` takes.
    """
    limits = [str(cpu_s or 0), str(memory_bytes or 0)]
    inherited = {key: value for key, value in os.environ.items() if key not in DROPPED}
    return subprocess.Popen(
        [sys.executable, "-m", "xmlgrpo_gguf.sandbox", *limits, *command],
        env={**inherited, **SET, **(environment or {})},
        start_new_session=True,
        **streams,
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended."""

    why: str  # empty for exit code 0, in time; else "took longer than 60 s" and the like
    log_tail: str  # the end of what it wrote
    seconds: float

    @property
    def last_line(self) -> str:
        """The last thing that it wrote; empty when it wrote nothing."""
        return "".join(self.log_tail.strip().splitlines()[-1:])


def run_child(
    command: Sequence[str],
    *,
    log: Path,
    timeout_s: float,
    cpu_s: int | None = None,
    memory_bytes: int | None = None,
    environment: Mapping[str, str] | None = None,
    on_poll: Callable[[], None] = lambda: None,
) -> Ended:
    """Run a command to its end or to its limits; never raises for what the child does.

    Args:
        cpu_s: CPU seconds that it may take; as many as fit into the timeout when None.
        on_poll: called a few times a second while it runs.

    The others are those of `start_child`.
    """
    started = time.monotonic()
    with log.open("wb") as output:
        process = start_child(
            command,
            cpu_s=cpu_s or int(timeout_s * (os.cpu_count() or 1)) + 1,
            memory_bytes=memory_bytes,
            environment=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            why = _wait(process, timeout_s, on_poll)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    with log.open("rb") as written:
        written.seek(max(0, log.stat().st_size - TAIL_CHARS))
        tail = written.read().decode("utf-8", errors="replace")
    return Ended(why, tail, time.monotonic() - started)


def _wait(process: "subprocess.Popen[bytes]", timeout_s: float, on_poll: Callable[[], None]) -> str:
    """Why the child did not finish, in words; empty when it did."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            code = process.wait(timeout=POLL_S)
        except subprocess.TimeoutExpired:
            on_poll()
            continue
        if -code in OUT_OF_TIME:
            return f"ran out of memory or CPU time (signal {-code})"
        if code < 0:
            return f"was killed by signal {-code}"
        return f"ended with exit code {code}" if code else ""
    return f"took longer than {timeout_s:.0f} s"


def _limit(kind: int, most: int) -> None:
    if not most:
        return
    _, allowed = resource.getrlimit(kind)
    if allowed != resource.RLIM_INFINITY:  # what the user's own limits leave
        most = min(most, allowed)
    resource.setrlimit(kind, (most, most))


def _main(cpu_s: int, memory_bytes: int, command: Sequence[str]) -> None:
    _limit(resource.RLIMIT_CPU, cpu_s)
    if sys.platform == "linux":
        _limit(resource.RLIMIT_AS, memory_bytes)
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
