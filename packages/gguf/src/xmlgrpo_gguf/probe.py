"""Ask llama.cpp something about a file from anywhere: in a child process, under limits.

Everything that it may do with such a file (crash, abort, eat memory, never return) happens there.
The tasks themselves are in `child_jobs`.  Request, result and how far a task is are files of one
folder.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xmlgrpo_gguf.header import require_gguf
from xmlgrpo_gguf.model import require_llama_cpp
from xmlgrpo_gguf.sandbox import run_child
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.disk import GIB
from xmlgrpo_run.files import write_text

REQUEST, RESULT, PROGRESS, LOGITS = "request.json", "result.json", "progress", "logits.f32"
BASE_GIB = 6  # Python, numpy, llama.cpp's buffers and a 262,144 wide row of logits a token
PROBE_TIMEOUT_S = 600.0  # a large file on a slow disk takes minutes to be read
PROBE_CPU_S = 60
PROBE_CPU_S_PER_GIB = 10  # mapping the weights and reading a few tokens with one core

OnProgress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: its result, or why there is none, and how long it took."""

    result: dict[str, Any] | None
    why: str
    seconds: float


def run_job(
    task: str,
    file: Path,
    request: dict[str, Any],
    *,
    scratch: Path,
    timeout_s: float,
    cpu_s: int | None = None,
    on_progress: OnProgress = lambda _phase, _done: None,
) -> Outcome:
    """Run a task in a child process, whose memory is limited to twice the file's size and 6 GiB.

    Args:
        task: a name of `child_jobs.TASKS`.
        file: the model; the `file` of the request.
        request: what else the task is given.
        scratch: an existing folder for the task's files, its log among them.
        cpu_s: CPU seconds that it may take; as many as fit into the timeout when None.
        on_progress: told the phase the task is in, in a word, and how many replies of it are done.
    """

    def on_poll() -> None:
        if progress.is_file():
            phase, done = progress.read_text().split()
            on_progress(phase, float(done))

    answered, progress = scratch / RESULT, scratch / PROGRESS
    for left_over in (answered, progress):
        left_over.unlink(missing_ok=True)
    write_text(scratch / REQUEST, json.dumps({"file": str(file.absolute()), **request}))
    ended = run_child(
        ["-m", "xmlgrpo_gguf.child_jobs", task, str(scratch)],
        log=scratch / f"{task}.log",
        timeout_s=timeout_s,
        cpu_s=cpu_s,
        memory_bytes=2 * file.stat().st_size + BASE_GIB * GIB,
        on_poll=on_poll,
    )
    if ended.why or not answered.is_file():
        last = re.sub(r"^\S*/", "", ended.last_line)  # without the folder that it was built in
        why = f"llama.cpp {ended.why or 'gave no result'}: {last}".removesuffix(": ")
        return Outcome(None, why, ended.seconds)
    result = json.loads(answered.read_text(encoding="utf-8"))
    if "error" in result:
        return Outcome(None, result["error"], ended.seconds)
    return Outcome(result, "", ended.seconds)


def probe(path: Path) -> None:
    """Load a file from anywhere in a child process, before it is loaded in this one.

    llama.cpp ends the process at a header that contradicts itself (`GGML_ASSERT`).

    Raises:
        UserError: llama-cpp-python is missing, the file is no GGUF, or it cannot be loaded within
            limits on time and memory.
    """
    require_llama_cpp()
    require_gguf(path)
    cpu_s = PROBE_CPU_S + ceil(PROBE_CPU_S_PER_GIB * path.stat().st_size / GIB)
    with TemporaryDirectory(prefix="xmlgrpo-probe-") as scratch:
        outcome = run_job(
            "load", path, {}, scratch=Path(scratch), timeout_s=PROBE_TIMEOUT_S, cpu_s=cpu_s
        )
    if outcome.result is None:
        raise UserError(f"{path} cannot be opened ({outcome.why}); it may be damaged or hostile")
