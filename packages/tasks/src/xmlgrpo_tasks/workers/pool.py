"""Worker processes that can be killed: what may hang, crash or eat the memory runs in one of them.

    with Pool("xmlgrpo_tasks.sql.engine:run", wall_s=1.0, memory_bytes=512 << 20) as pool:
        outcomes = pool.map(jobs)

A worker is a new, small Python (never a fork of this process, which may hold torch, threads and
tokens): an empty environment, no descriptors but its pipes, limits on memory and file size that the
kernel keeps.  It ends with its pipe, and so with this process however that one ends.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from xmlgrpo_tasks.workers import child
from xmlgrpo_tasks.workers.child import TIMEOUT

START_S = 30.0
ANSWER_BYTES = 64 << 20
READ_BYTES = 1 << 18
TAIL_CHARS = 500
ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8"}

Wrap = Callable[[list[str], list[str]], list[str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one job."""

    value: Any = None  # what the function returned
    why: str = ""  # why there is no value: "timeout", "out of memory", "killed by signal 11", ...


def free_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def _file_of(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"expected the name of a module, got {module!r}")
    return spec.origin


class Pool:
    """Some workers that all run one function.  Threads may share it; they take turns.

    Args:
        function: `package.module:function`, from one JSON value to another.  Its module is loaded
            by its file, alone: it imports the standard library only.
        needs: modules that it imports, each loaded in the same way, in this order.
        wall_s: how long one job may take before its worker is killed; on a busy machine it waits
            for its turn, too.
        cpu_s: how much of that it may compute; as much as it likes when None.
        memory_bytes: address space of a worker (Linux only).
        file_bytes: how large a file it may write; by default none.
        workers: how many at most; the cores that are free when None.
        wrap: puts something around the command, such as a sandbox; it is given the command and the
            files that it must be able to read.
        reuse: False ends a worker after each job.
        hash_seed: of the workers: the order of a set of texts is the same in all of them.
    """

    def __init__(
        self,
        function: str,
        *,
        needs: Sequence[str] = (),
        wall_s: float,
        cpu_s: float | None = None,
        memory_bytes: int,
        file_bytes: int = 0,
        workers: int | None = None,
        wrap: Wrap = lambda command, _files: command,
        reuse: bool = True,
        hash_seed: int = 0,
    ) -> None:
        module, _, name = function.partition(":")
        files = {needed: _file_of(needed) for needed in (*needs, module)}
        # -I but for its blindness to PYTHONHASHSEED; nothing else of the kind is in the environment
        python = [sys.executable, "-s", "-S", "-P", "-B", "-X", "utf8", child.__file__]
        limits = [f"{wall_s}", f"{cpu_s or 0}", f"{memory_bytes}", f"{file_bytes}"]
        command = [*python, *limits, name, *(f"{needed}={file}" for needed, file in files.items())]
        self._command = wrap(command, [child.__file__, *files.values()])
        self._environment = {**ENVIRONMENT, "PYTHONHASHSEED": str(hash_seed)}
        self._wall_s, self._reuse, self._most = wall_s, reuse, workers or free_cores()
        self._workers: list[_Worker] = []
        self._turn = threading.Lock()
        weakref.finalize(self, _end_all, self._workers)  # at exit, too
        forget = weakref.WeakMethod(self._forget)
        os.register_at_fork(after_in_child=lambda: (found := forget()) and found())

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers; a later `map` starts new ones."""
        with self._turn:
            _end_all(self._workers)

    def map(self, jobs: Sequence[object]) -> list[Outcome]:
        """Run each job in a worker; the outcomes stand in the order of the jobs.

        Never raises for what a job does.

        Raises:
            RuntimeError: no worker can be started; says what it wrote.
        """
        with self._turn:
            try:
                return self._run(jobs)
            except BaseException:  # after Ctrl-C an answer may still come, to a job of nobody
                _end_all(self._workers)
                raise

    def _run(self, jobs: Sequence[object]) -> list[Outcome]:
        waiting = deque(enumerate(jobs))
        outcomes: dict[int, Outcome] = {}
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._drop(worker)  # killed from outside, or its sandbox ended with a thread of ours
        while len(outcomes) < len(jobs):
            while len(self._workers) < min(self._most, len(jobs) - len(outcomes)):
                self._workers.append(_Worker(self._command, self._environment))
            for worker in self._workers:
                if waiting and not worker.busy:
                    worker.take(*waiting.popleft(), self._wall_s)
            busy = [worker for worker in self._workers if worker.busy]
            _pass_on(busy)
            for worker in busy:
                done = worker.done()
                if done is None:
                    continue
                index, outcome, usable = done
                outcomes[index] = outcome
                if not (usable and self._reuse):
                    self._drop(worker)
        return [outcomes[index] for index in range(len(jobs))]

    def _drop(self, worker: "_Worker") -> None:
        self._workers.remove(worker)
        worker.end()

    def _forget(self) -> None:
        """In a process forked off this one: the workers are the other one's."""
        for worker in self._workers:
            worker.process.returncode = 0
            worker.close_pipes()
        self._workers.clear()
        self._turn = threading.Lock()


class _Worker:
    """One process, and how far it is with its job."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        self._pipes = [pipe for pipe in (self.process.stdin, self.process.stdout) if pipe]
        self.jobs, self.answers = (pipe.fileno() for pipe in self._pipes)
        for descriptor in (self.jobs, self.answers):
            os.set_blocking(descriptor, False)
        self.deadline = time.monotonic() + START_S
        self.to_send = memoryview(b"")
        self._received = bytearray()
        self._ended = self._ready = False
        self._index: int | None = None

    @property
    def busy(self) -> bool:
        return not self._ready or self._index is not None

    def take(self, index: int, job: object, wall_s: float) -> None:
        self._index, self.deadline = index, time.monotonic() + wall_s
        self.to_send = memoryview(child.frame(job))

    def send(self) -> None:
        try:
            self.to_send = self.to_send[os.write(self.jobs, self.to_send) :]
        except BrokenPipeError:
            self.to_send = self.to_send[:0]  # what is read next says why

    def receive(self) -> None:
        got = os.read(self.answers, READ_BYTES)
        self._received += got
        self._ended = not got

    def done(self) -> tuple[int, Outcome, bool] | None:
        """The job's index, its outcome, and whether the worker can take another; None: not yet."""
        answer = self._answer()
        late = time.monotonic() > self.deadline
        if answer is None and not self._ended and not late:
            return None
        if self._index is None:
            if answer is None:
                raise RuntimeError(f"a worker process did not start: {self._last_words()}")
            self._ready = True
            return None
        index, self._index = self._index, None
        if answer is not None:
            return index, Outcome(**answer), True
        return index, Outcome(why=TIMEOUT if late else self._how_it_ended()), False

    def _answer(self) -> Any:
        head = child.LENGTH.size
        if len(self._received) < head:
            return None
        (length,) = child.LENGTH.unpack_from(self._received)
        if length > ANSWER_BYTES:
            self._ended = True
        if len(self._received) < head + length:
            return None
        answer = json.loads(self._received[head : head + length])
        del self._received[: head + length]
        return answer

    def _how_it_ended(self) -> str:
        self._kill()
        code = self.process.wait()
        if code == -signal.SIGPROF:  # the timer of its CPU time
            return TIMEOUT
        return f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def _last_words(self) -> str:
        self._kill()
        written = self.process.stderr.read() if self.process.stderr else b""
        text = written.decode("utf-8", errors="replace").strip()[-TAIL_CHARS:]
        return text or self._how_it_ended()

    def _kill(self) -> None:
        if self.process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        self._kill()
        self.process.wait()
        self.close_pipes()

    def close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


def _pass_on(busy: Sequence[_Worker]) -> None:
    """Send what is to be sent and read what there is, when something happens or a job is late."""
    with selectors.DefaultSelector() as selector:
        for worker in busy:
            selector.register(worker.answers, selectors.EVENT_READ, worker.receive)
            if worker.to_send:
                selector.register(worker.jobs, selectors.EVENT_WRITE, worker.send)
        first = min(worker.deadline for worker in busy)
        for key, _ in selector.select(max(0.0, first - time.monotonic())):
            key.data()


def _end_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().end()
