"""What a worker does with one program: parse it, run it, call its function on the inputs.

A worker loads this file by itself: the standard library only.  Three processes take part:

- the *worker* gets the job and never runs the program;
- the *stem*, forked off it before its first job, knows of no job at all; it forks
- a *candidate* for each program, under limits and the seccomp filter.  It is sent the program, then
  one input after the other, each when the last is answered, and never what is expected.

The candidate is not believed: its answers are texts for the judge to read.  Only what it says
before the program's first line runs (does it parse, is the function there) is taken as it stands.
"""

import ast
import bisect  # noqa: F401 - here and below: what programs import is there, and costs them nothing
import collections  # noqa: F401
import contextlib
import copy  # noqa: F401
import datetime  # noqa: F401
import functools  # noqa: F401
import heapq  # noqa: F401
import itertools  # noqa: F401
import json
import math  # noqa: F401
import operator  # noqa: F401
import os
import random  # noqa: F401 - a fork gives it a new seed
import re  # noqa: F401
import resource
import select
import signal
import socket
import string  # noqa: F401
import struct
import sys
import time
import typing  # noqa: F401
from types import ModuleType
from typing import Any, NoReturn

from xmlgrpo_tasks.code import values
from xmlgrpo_tasks.workers import child, syscalls

MOST_CHARS = 20_000  # of a program
CPU_S = 2
WALL_S = 4.0
WAITED_S = 0.2  # of CPU; what had less by then has slept
MEMORY_BYTES = 512 << 20
MOST_DESCRIPTORS = 16
MOST_ANSWERED = 1 << 20  # characters, of all cases together
SAID_CHARS = 100
START, STOP = b"s", b"k"
END = struct.Struct(">Id")  # what the stem answers


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run one program.

    Args:
        job: `program`, `entry` (the name of its function), `arity`, and `inputs`: for each call its
            packed arguments.

    Returns:
        `defines`: whether it parses and defines the function; `answers`: a JSON text for each call
        that was answered (see `_call`); `why`: why there are not as many as there are inputs;
        `seconds`: of CPU; `waited`: the wall clock stopped it while it computed.
    """
    began = time.monotonic()
    inputs_r, inputs_w = os.pipe()
    answers_r, answers_w = os.pipe()
    _tell_stem(START, inputs_r, answers_w)
    os.close(inputs_r)
    os.close(answers_w)
    result: dict[str, Any] = {"defines": False, "answers": [], "why": ""}
    try:
        os.set_blocking(inputs_w, False)
        _converse(job, _Line(inputs_w, answers_r, began + WALL_S), result)
    except TimeoutError:
        result["why"] = child.TIMEOUT
    except _Garbled:
        result["why"] = "wrote more than an answer"
    except EOFError:
        pass  # how it ended says why
    finally:
        os.close(inputs_w)
        os.close(answers_r)
        status, seconds = _stop()
    if not result["why"] and len(result["answers"]) < len(job["inputs"]):
        result["why"] = _how_it_ended(status, seconds)
    waited = result["why"] == child.TIMEOUT and WAITED_S <= seconds < CPU_S
    return {**result, "seconds": seconds, "waited": waited}


def _converse(job: dict[str, Any], line: "_Line", result: dict[str, Any]) -> None:
    line.send({key: job[key] for key in ("program", "entry", "arity")})
    parsed = json.loads(line.receive())
    result["defines"], result["why"] = parsed["defines"], parsed["why"]
    if parsed["why"]:
        return
    ran = line.receive()  # from here on it may say anything
    if ran:
        result["why"] = ran
        return
    for arguments in job["inputs"]:
        line.send(arguments)
        result["answers"].append(line.receive())
        if sum(map(len, result["answers"])) > MOST_ANSWERED:
            raise _Garbled


def _tell_stem(message: bytes, *pipes: int) -> None:
    try:
        socket.send_fds(_stem, [message], pipes)
    except OSError:  # it has ended, and with it this worker does; the pool starts another
        raise SystemExit from None


def _stop() -> tuple[int, float]:
    """The candidate's wait status and CPU seconds."""
    _tell_stem(STOP)
    end = _stem.recv(END.size)
    if len(end) < END.size:
        raise SystemExit
    status, seconds = END.unpack(end)
    return status, seconds


def _how_it_ended(status: int, seconds: float) -> str:
    if not os.WIFSIGNALED(status):
        return "ended its process"
    number = os.WTERMSIG(status)
    # what the kernel sends for too much CPU time: the second where the first is not heard
    if number == signal.SIGXCPU or (number == signal.SIGKILL and seconds >= CPU_S):
        return child.TIMEOUT
    return f"killed by signal {number}"


class _Garbled(Exception):  # noqa: N818 - what the candidate did
    """What came out of the pipe is no answer."""


class _Line:
    """The pipes to a candidate, with one deadline for everything."""

    def __init__(self, inputs: int, answers: int, deadline: float) -> None:
        self._inputs, self._answers, self._deadline = inputs, answers, deadline

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def send(self, value: object) -> None:
        rest = memoryview(child.frame(value))
        while rest:
            select.select([], [self._inputs], [], self._left())
            with contextlib.suppress(BlockingIOError):
                try:
                    rest = rest[os.write(self._inputs, rest) :]
                except BrokenPipeError:
                    raise EOFError from None

    def receive(self) -> str:
        (length,) = child.LENGTH.unpack(self._read(child.LENGTH.size))
        if length > values.MOST_TEXT:
            raise _Garbled
        return self._read(length).decode("utf-8", errors="replace")

    def _read(self, length: int) -> bytes:
        got = b""
        while len(got) < length:
            select.select([self._answers], [], [], self._left())
            self._left()
            more = os.read(self._answers, length - len(got))
            if not more:
                raise EOFError
            got += more
        return got


def _grow_stem() -> socket.socket:
    ours, theirs = socket.socketpair()
    if not os.fork():
        ours.close()
        _begin_stem(theirs)
    theirs.close()
    return ours


def _begin_stem(theirs: socket.socket) -> NoReturn:
    """Keep nothing open but the worker's word."""
    nothing = os.open(os.devnull, os.O_RDWR)
    control = os.dup2(theirs.fileno(), 3, inheritable=False)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    theirs.detach()
    _live(socket.socket(fileno=control))


def _live(control: socket.socket) -> NoReturn:
    """The stem: one candidate at a time, until the worker is gone."""
    while True:
        message, pipes, _, _ = socket.recv_fds(control, 1, 2)
        if message != START:
            os._exit(0)
        pid = os.fork()
        if not pid:
            _be_candidate(*pipes)
        for pipe in pipes:
            os.close(pipe)
        heard = control.recv(1)
        os.kill(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
        if heard != STOP:
            os._exit(0)
        control.send(END.pack(status, used.ru_utime + used.ru_stime))


def _be_candidate(inputs: int, answers: int) -> NoReturn:
    try:
        os.dup2(inputs, 3)
        os.dup2(answers, 4)
        os.closerange(5, 64)
        for kind, most in (
            (resource.RLIMIT_AS, MEMORY_BYTES),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_NOFILE, MOST_DESCRIPTORS),
        ):
            resource.setrlimit(kind, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
        if syscalls.available():  # else it has a sandbox of its own
            syscalls.restrict(os.getpid())
        _answer_all()
    finally:
        os._exit(0)


def _answer_all() -> None:
    # not closed by us: the worker takes the end of these pipes for the end of the process
    inputs, answers = os.fdopen(3, "rb", closefd=False), os.fdopen(4, "wb", 0, closefd=False)
    job = json.loads(child.read_frame(inputs) or b"")
    tree, parsed = _parse(job["program"], job["entry"], job["arity"])
    answers.write(child.frame(parsed))
    if tree is None:
        return
    # a name of its own: what stands under `if __name__ == "__main__":` is not asked for
    module = ModuleType("candidate")
    sys.modules["candidate"] = module
    _write(answers, _execute(tree, module, job["entry"]))
    while (arguments := child.read_frame(inputs)) is not None:
        _write(answers, _call(getattr(module, job["entry"]), json.loads(arguments)))


def _write(answers: Any, text: str) -> None:
    data = text.encode("utf-8", errors="replace")
    answers.write(child.LENGTH.pack(len(data)) + data)


def _parse(program: str, entry: str, arity: int) -> tuple[ast.Module | None, dict[str, Any]]:
    if len(program) > MOST_CHARS:
        return None, {"defines": False, "why": f"longer than {MOST_CHARS:,} characters"}
    try:
        tree = ast.parse(program)
    except (SyntaxError, ValueError) as error:
        return None, {"defines": False, "why": f"does not parse: {error}"[:SAID_CHARS]}
    except (MemoryError, RecursionError):
        return None, {"defines": False, "why": "does not parse: too deep"}
    named = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == entry]
    defines = bool(named) and _takes(named[-1].args, arity)
    return tree, {"defines": defines, "why": ""}


def _takes(parameters: ast.arguments, arity: int) -> bool:
    most = len(parameters.posonlyargs) + len(parameters.args)
    least = most - len(parameters.defaults)
    by_name = sum(default is None for default in parameters.kw_defaults)
    return least <= arity and (arity <= most or parameters.vararg is not None) and not by_name


def _execute(tree: ast.Module, module: ModuleType, entry: str) -> str:
    """Run the program's own lines; why it cannot be called then, empty where it can."""
    try:
        exec(compile(tree, "candidate", "exec"), vars(module))  # noqa: S102 - it is what we are for
    except BaseException as error:  # noqa: BLE001 - SystemExit is no answer either
        return f"raised {_said(error)}"
    return "" if callable(getattr(module, entry, None)) else f"no function {entry}"


def _call(function: Any, arguments: Any) -> str:
    """The answer to one input, as JSON: a `value`, what was `raised`, or an `odd` thing."""
    try:
        value = function(*values.unpack(arguments))
    except BaseException as error:  # noqa: BLE001
        names = [kind.__name__ for kind in type(error).__mro__]
        return json.dumps({"raised": names[:8], "said": _said(error)})
    try:
        return json.dumps({"value": values.pack(value)})
    except values.NotPlain as error:
        return json.dumps({"odd": str(error)[:SAID_CHARS]})


def _said(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - the program wrote this method, too
        text = ""
    return f"{type(error).__name__}: {text}"[:SAID_CHARS]


syscalls.hide_memory()
_stem = _grow_stem()
