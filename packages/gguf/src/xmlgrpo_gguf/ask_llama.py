"""Ask llama.cpp something, in a child process under limits."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmlgrpo_gguf.child import RESULT
from xmlgrpo_gguf.sandbox import run_child
from xmlgrpo_run.disk import GIB

BASE_GIB = 6  # Python, numpy, llama.cpp's buffers and a 262,144 wide row of logits a token

OnProgress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Told:
    """What came back: a result, or why there is none."""

    result: dict[str, Any] | None
    why: str
    seconds: float


def ask_llama(
    task: str,
    request: dict[str, Any],
    *,
    scratch: Path,
    file_bytes: int,
    timeout_s: float,
    on_progress: OnProgress = lambda _phase, _done: None,
) -> Told:
    """Run a task of `llama_child`.

    Args:
        task: its name there.
        request: its arguments.
        scratch: an existing folder for the request, the result and the log.
        file_bytes: size of the model file; the memory limit is twice that and 6 GiB.
        timeout_s: killed after this long.
        on_progress: told the phase the task is in, in a word, and how many replies of it are done.
    """

    def on_line(line: str) -> None:
        phase, done = line.split()
        on_progress(phase, float(done))

    asked, answered = scratch / "request.json", scratch / RESULT
    answered.unlink(missing_ok=True)
    asked.write_text(json.dumps(request), encoding="utf-8")
    ended = run_child(
        ["-m", "xmlgrpo_gguf.child", task, str(asked)],
        log=scratch / f"{task}.log",
        timeout_s=timeout_s,
        memory_bytes=2 * file_bytes + BASE_GIB * GIB,
        on_line=on_line,
    )
    if not ended.ok or not answered.is_file():
        last = ended.log_tail.strip().splitlines()[-1:]
        why = f"llama.cpp {ended.why or 'gave no result'}" + "".join(f": {line}" for line in last)
        return Told(None, why, ended.seconds)
    return Told(json.loads(answered.read_text(encoding="utf-8")), "", ended.seconds)
