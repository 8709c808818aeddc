"""`llama_cpp.server` as a thing to measure: started, asked, its CPU time read."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from xmlgrpo_rewards.errors import UserError

PACKAGES = ("fastapi", "uvicorn", "sse_starlette", "starlette_context", "pydantic_settings")
START_S = 120


def missing_packages() -> list[str]:
    """The server's packages that are not installed."""
    return [package for package in PACKAGES if find_spec(package) is None]


@dataclass(frozen=True)
class Completion:
    """What the server wrote."""

    text: str
    tokens: int


@dataclass(frozen=True)
class Server:
    """A running server."""

    pid: int
    port: int

    def complete(self, prompt: str, tokens: int) -> Completion:
        """Let it write greedily; `prompt` begins with a BOS, which the server adds itself."""
        body = {"prompt": prompt.removeprefix("<bos>"), "max_tokens": tokens, "temperature": 0.0}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/completions",
            data=json.dumps({**body, "repeat_penalty": 1.0}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310  # this machine
            done = json.load(answer)
        return Completion(done["choices"][0]["text"], int(done["usage"]["completion_tokens"]))

    def cpu_seconds(self) -> float:
        """CPU time that it has used, in user and in system mode."""
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(model: Path, context: int) -> Iterator[Server]:
    """Start a server over a GGUF, with one thread; it is stopped at the end.

    Raises:
        UserError: it does not start.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--model", model, "--n_ctx", context, "--n_threads", 1, "--n_threads_batch", 1]
    process = subprocess.Popen(
        [sys.executable, "-m", "llama_cpp.server", *map(str, words), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(process, port)
        yield Server(process.pid, port)
    finally:
        process.terminate()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise UserError(f"llama_cpp.server did not start within {START_S} s")
