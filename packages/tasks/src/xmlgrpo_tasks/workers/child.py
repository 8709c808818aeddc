"""What a worker process runs: read a job, call one function, write the answer, until the pipe ends.

python -I -S child.py FILE FUNCTION WALL_S MEMORY_BYTES FILE_BYTES

The standard library alone, and little of it: a start takes some 20 ms.  `FILE` is loaded by itself,
without the package around it.
"""

import json
import os
import resource
import runpy
import signal
import struct
import sys
from typing import BinaryIO

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


def _main(file: str, function_name: str, wall_s: float, memory_bytes: int, file_bytes: int) -> None:
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    function = runpy.run_path(file, run_name="worker")[function_name]
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
        try:
            answer = frame({"value": function(json.loads(job))})
        except MemoryError:
            answer = frame({"why": "out of memory"})
        except Exception as error:  # noqa: BLE001 - whatever it is, the next job is another one
            answer = frame({"why": f"{type(error).__name__}: {error}"})
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(answer)
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pool's business
    _main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
