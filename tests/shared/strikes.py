"""A command struck by a fault at a chosen moment, and everything that it leaves compared.

A moment is counted in what Python does to files in a folder (open to write, rename, make, remove),
seen by an audit hook that a `sitecustomize` on PYTHONPATH puts into the command's process.  At that
moment the process gets SIGKILL (`kill`) or SIGTERM (`stop`); or from then on no file can grow
(`full`: the system's own limit, which every library meets in its own way); or this one operation
fails (`broken`: EIO).
Processes that the command starts itself are left alone: what becomes of them is looked at.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import forked

Fault = Literal["kill", "stop", "full", "broken"]
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGTERM}
BIN = Path(sys.executable).parent
ENDS_WITHIN_S = 60  # a process that the command started, after the command itself was killed

HOOK = """
import errno, os, re, resource, signal, sys

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.symlink"}
seen = 0
is_busy = False


def watch(event, arguments):
    global seen, is_busy
    to_write = event == "open" and arguments[2] and arguments[2] & WRITES
    if is_busy or not (to_write or event in CHANGES):
        return
    if not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    path = os.path.join(os.getcwd(), os.fsdecode(arguments[0]))
    did = f"{event} {os.path.relpath(path, folder)}"
    if not path.startswith(folder) or not re.search(pattern, did):
        return
    seen += 1
    is_busy = True
    if log:
        to = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(to, f"{did}\\n".encode())
        os.close(to)
    if seen == moment and fault in signals:
        os.kill(os.getpid(), signals[fault])
    if seen == moment and fault == "full":
        sys.dont_write_bytecode = True  # Python takes a short write of a .pyc for a whole one
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))
    is_busy = False
    if seen == moment and fault == "broken":
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)


if here or len(sys.orig_argv) > 1 and os.path.basename(sys.orig_argv[1]).startswith("xmlgrpo-"):
    sys.addaudithook(watch)
"""

# entries of a JSON file that say when or how long, or what the checkout was meanwhile
TIMES = {"time", "step_time", "seconds", "cpu_seconds", "tokens_per_s", "peak_mib", "finished"}
TIMES |= {
    "rollout_time",
    "greedy_tokens_per_s",
    "load_s",
    "date",
    "mtime_ns",
    "commit",
    "dirty",
    "sha256_of_the_rest",
}
# files that hold such entries, whose hashes therefore differ
TIMED_FILES = {
    "metrics.jsonl",
    "trainer_state.json",
    "curves.png",
    "manifest.json",
    "identity.json",
}


@dataclass(frozen=True)
class Strike:
    """What happens, and at which of the events that the pattern matches; 0: nothing does."""

    fault: Fault = "kill"
    moment: int = 0
    pattern: str = ""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    errors: str
    events: tuple[str, ...]  # those before the strike too
    seconds: float
    orphans: tuple[str, ...]  # processes that it had started and that did not end with it


def run(
    words: Sequence[str],
    folder: Path,
    strike: Strike = Strike(),
    *,
    scratch: Path,
    after_s: float | None = None,
    environment: Mapping[str, str] | None = None,
    fork: bool = False,
) -> Ended:
    """Run one of our console scripts in a folder, and strike.

    Args:
        words: the script's name and its arguments.
        folder: the working folder; what is done to files under it is counted.
        strike: what happens when.
        scratch: a folder outside of it, for the hook.
        after_s: the strike's signal after so many seconds, instead of at a moment.
        environment: variables beside this process's.
        fork: in a fork of a process that has the libraries loaded (`forked`), instead of a new
            Python, where most of the time goes into that.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    log = scratch / "events.txt"
    log.unlink(missing_ok=True)
    given = {"folder": f"{folder}{os.sep}", "log": str(log), "here": fork, **vars(strike)}
    given["signals"] = {name: int(number) for name, number in SIGNALS.items()}
    hook = "\n".join(f"{name} = {value!r}" for name, value in given.items()) + HOOK
    # a hook as long as the one before, written in the same second, would be taken for it
    shutil.rmtree(scratch / "__pycache__", ignore_errors=True)
    (scratch / "sitecustomize.py").write_text(hook, encoding="utf-8")
    variables = {**os.environ, "PYTHONPATH": str(scratch), **(environment or {})}
    reading, writing = forked.CONTEXT.Pipe(duplex=False)  # a file would be full with the disk
    said: list[bytes] = []
    reader = threading.Thread(target=_read, args=(reading, said), daemon=True)
    reader.start()
    began = time.monotonic()
    if fork:
        process = forked.start(words, folder, environment=variables, errors=writing, before=hook)
        number = process.pid
        assert number is not None
        code = _waited(lambda: process.exitcode, number, strike.fault, after_s)
    else:
        started = subprocess.Popen(
            [sys.executable, str(BIN / words[0]), *words[1:]],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=writing.fileno(),
            start_new_session=True,
        )
        number = started.pid
        code = _waited(started.poll, number, strike.fault, after_s)
    writing.close()
    seconds = time.monotonic() - began
    left = _orphans(number)
    reader.join()
    events = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return Ended(code, b"".join(said).decode(errors="replace"), tuple(events), seconds, left)


def _read(pipe: Connection, said: list[bytes]) -> None:
    with os.fdopen(os.dup(pipe.fileno()), "rb") as lines:
        said.extend(lines)


def _waited(
    exit_code: Callable[[], int | None], process: int, fault: Fault, after_s: float | None
) -> int:
    """The exit code, negative for a signal."""
    until = None if after_s is None else time.monotonic() + after_s
    while (code := exit_code()) is None:
        if until is not None and time.monotonic() > until:
            os.kill(process, SIGNALS[fault])
            until = None
        time.sleep(0.05)
    return code


def _orphans(session: int) -> tuple[str, ...]:
    left: list[int] = []
    for _ in range(10 * ENDS_WITHIN_S):
        numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        left = [number for number in numbers if _session(number) == session]
        if not left:
            return ()
        time.sleep(0.1)
    words = [Path(f"/proc/{number}/cmdline").read_text().replace("\0", " ") for number in left]
    for number in left:
        os.kill(number, signal.SIGKILL)
    return tuple(words)


def _session(process: int) -> int:
    try:
        return os.getsid(process)
    except OSError:
        return 0


def contents(folder: Path) -> dict[str, str]:
    """Every file under a folder, by a digest of what a run that was struck must leave alike.

    Byte by byte; of JSON without the entries that say when and how long.  Locks are left out, and
    what is left of a temporary name is named.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.endswith(".partial"):
            found[name] = "left over"
        elif path.is_file() and not path.name.endswith(".lock"):
            found[name] = _digest(path)
    return found


def differences(sound: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """The names of files that are not there in both, or differ."""
    names = sound.keys() | found.keys()
    return sorted(name for name in names if sound.get(name) != found.get(name))


def _digest(path: Path) -> str:
    raw = path.read_bytes()
    if path.suffix == ".json":
        raw = json.dumps(_timeless(json.loads(raw)), sort_keys=True).encode()
    elif path.name == "metrics.jsonl":  # the steps after the last checkpoint are logged again
        rows: dict[int, dict[str, Any]] = {}
        for line in raw.decode().splitlines():
            row = json.loads(line) if line.endswith("}") else {"step": -1}
            rows[row["step"]] = rows.get(row["step"], {}) | row
        rows.pop(-1, None)
        raw = json.dumps([_timeless(rows[step]) for step in sorted(rows)], sort_keys=True).encode()
    return hashlib.sha256(raw).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _timeless(inner)
            for key, inner in value.items()
            if key not in TIMES and Path(key).name not in TIMED_FILES
        }
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value
