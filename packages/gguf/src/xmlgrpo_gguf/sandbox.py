"""Run a piece of work in a child process with a time limit, a memory limit and news of progress.

llama.cpp and its converter are C++ and other people's scripts: a crash, an abort or an endless loop
there must cost us a child, not the command.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.2
PIPE_BYTES = 1 << 16
TAIL_CHARS = 2000

# Tokens must not reach a child that reads foreign files; a GPU build of llama.cpp reserves address
# space for the devices that it sees, more than any sound memory limit.
DROPPED = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "PYTHONPATH", "NO_LOCAL_GGUF")
NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "GGML_VK_VISIBLE_DEVICES": ""}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended.

    Attributes:
        ok: it finished in time with exit code 0.
        why: empty when ok; else "took longer than 60 s", "was killed by signal 11" and so on.
        log_tail: the end of what it wrote.
        seconds: how long it ran.
    """

    ok: bool
    why: str
    log_tail: str
    seconds: float


def run_child(
    command: Sequence[str],
    *,
    log: Path,
    timeout_s: float,
    memory_bytes: int | None = None,
    environment: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Ended:
    """Run a command to its end or to its limits; never raises for what the child does.

    Args:
        command: arguments for the Python that runs us.
        log: receives everything the child writes.
        timeout_s: killed after this long.
        memory_bytes: address space it may have (Linux only); None for no limit.
        environment: variables added to ours.
        on_line: told each line that the child writes into a pipe, whose number is then its last
            argument.
    """
    inherited = {key: value for key, value in os.environ.items() if key not in DROPPED}
    started = time.monotonic()
    with ExitStack() as opened:
        output = opened.enter_context(log.open("wb"))
        news = opened.enter_context(_News(on_line)) if on_line else None
        process = subprocess.Popen(
            [sys.executable, *command, *([str(news.written)] if news else [])],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**inherited, **NO_GPU, **(environment or {})},
            pass_fds=[news.written] if news else [],
            start_new_session=True,
        )
        try:
            if sys.platform == "linux":
                _limit(process.pid, timeout_s, memory_bytes)
            why = _wait(process, started + timeout_s, timeout_s, news)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    with log.open("rb") as written:
        written.seek(max(0, log.stat().st_size - TAIL_CHARS))
        tail = written.read().decode("utf-8", errors="replace")
    return Ended(not why, why, tail, time.monotonic() - started)


class _News:
    """The lines that a child writes into a pipe; a context manager that closes both ends.

    Args:
        on_line: told each whole line.

    Attributes:
        written: the file descriptor that the child writes to.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line, self._rest = on_line, b""
        self._read, self.written = os.pipe()
        os.set_blocking(self._read, False)

    def __enter__(self) -> "_News":
        return self

    def __exit__(self, *_reason: object) -> None:
        os.close(self._read)
        os.close(self.written)

    def tell(self) -> None:
        """Hand on what has arrived."""
        with suppress(BlockingIOError):
            while piece := os.read(self._read, PIPE_BYTES):
                *lines, self._rest = (self._rest + piece).split(b"\n")
                for line in lines:
                    self._on_line(line.decode())


def _limit(pid: int, timeout_s: float, memory_bytes: int | None) -> None:
    """Limits that the kernel keeps, even when this process is killed outright."""
    cpu_s = int(timeout_s * (os.cpu_count() or 1)) + 1
    resource.prlimit(pid, resource.RLIMIT_CPU, (cpu_s, cpu_s))
    if memory_bytes is not None:
        resource.prlimit(pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _wait(
    process: "subprocess.Popen[bytes]",
    deadline: float,
    timeout_s: float,
    news: _News | None,
) -> str:
    while True:
        try:
            code = process.wait(timeout=POLL_S)
        except subprocess.TimeoutExpired:
            if news is not None:
                news.tell()
            if time.monotonic() > deadline:
                return f"took longer than {timeout_s:.0f} s"
            continue
        if code < 0:
            return f"was killed by signal {-code}"
        return f"ended with exit code {code}" if code else ""
