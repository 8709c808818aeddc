"""What the tests have a worker do; a worker loads this file by itself."""

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _spin(_job: dict[str, Any]) -> None:
    while True:
        pass


def _fail(_job: dict[str, Any]) -> None:
    raise ValueError("no such thing")


JOBS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "add": lambda job: sum(job["numbers"]),
    "echo": lambda job: job["text"],
    "sleep": lambda job: time.sleep(job["s"]),
    "spin": _spin,
    "crash": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda _: os._exit(0),
    "raise": _fail,
    "eat": lambda _: len(bytearray(8 << 30)),
    "write": lambda job: Path(job["path"]).write_bytes(b"x" * 4096),
    "print": lambda _: print("x" * (1 << 20), flush=True),
    "environment": lambda _: sorted(os.environ),
    "descriptors": lambda _: sorted(int(path.name) for path in Path("/proc/self/fd").iterdir()),
    "core": lambda _: resource.getrlimit(resource.RLIMIT_CORE)[0],
    "pid": lambda _: os.getpid(),
}


def run(job: dict[str, Any]) -> Any:
    return JOBS[job["do"]](job)
