"""What a worker process runs: read a job, call one function, write the answer, until the pipe ends.

python -s -S -P -B child.py WALL_S CPU_S MEMORY_BYTES FILE_BYTES FUNCTION MODULE=FILE ...

The standard library alone, and little of it: a start takes some 20 ms.  Each file is loaded under
its module's name without the packages around it, so that a later one can import an earlier one; the
function is one of the last.
"""

import json
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

TIMEOUT = "timeout"  # why a job that was late has no value
ORPHANED_S = 0.3  # how much later than the pool would
LENGTH = struct.Struct(">I")  # of the frame that follows it


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame; None where the pipe has ended."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    frame = stream.read(length)
    return frame if len(frame) == length else None


def frame(value: object) -> bytes:
    """A JSON value as a frame; lone surrogates are escaped, so that any text goes through."""
    text = json.dumps(value).encode("ascii")
    return LENGTH.pack(len(text)) + text


def _limit(kind: int, most: int) -> None:
    _, allowed = resource.getrlimit(kind)
    if allowed != resource.RLIM_INFINITY:  # what the user's own limits leave
        most = min(most, allowed)
    resource.setrlimit(kind, (most, most))


def _register(module: ModuleType, name: str) -> None:
    """Let `name` be imported, without the packages that stand in it."""
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    if parent:
        if parent not in sys.modules:
            _register(ModuleType(parent), parent)
        setattr(sys.modules[parent], last, module)


def _load(name: str, file: str) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = file
    _register(module, name)
    exec(compile(Path(file).read_bytes(), file, "exec"), vars(module))  # noqa: S102 - our own file
    return module


def _main(limits: list[str], function_name: str, modules: list[str]) -> None:
    wall_s, cpu_s = map(float, limits[:2])
    memory_bytes, file_bytes = map(int, limits[2:])
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    _register(sys.modules["__main__"], "xmlgrpo_tasks.workers.child")
    for module in modules:
        loaded = _load(*module.split("=", 1))
    function = getattr(loaded, function_name)
    if sys.platform == "linux":
        _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # from here on nobody reads what is printed
        os.dup2(nothing, descriptor)
    os.close(nothing)
    answers.write(frame("ready"))
    answers.flush()
    while (job := read_frame(jobs)) is not None:
        # The pool kills a worker that is late.  Where the pool is gone, the kernel does.
        signal.setitimer(signal.ITIMER_REAL, wall_s + ORPHANED_S)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)  # where it is 0 there is no limit
        try:
            answer = frame({"value": function(json.loads(job))})
        except MemoryError:
            answer = frame({"why": "out of memory"})
        except Exception as error:  # noqa: BLE001 - whatever it is, the next job is another one
            answer = frame({"why": f"{type(error).__name__}: {error}"})
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(answer)
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pool's business
    _main(sys.argv[1:5], sys.argv[5], sys.argv[6:])
