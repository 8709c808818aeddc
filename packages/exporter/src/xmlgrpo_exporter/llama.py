"""Ask llama.cpp something, in a child process under limits."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmlgrpo_exporter.child import run_child
from xmlgrpo_exporter.disk import GIB
from xmlgrpo_exporter.llama_child import RESULT

BASE_GIB = 6  # Python, numpy, llama.cpp's buffers and a 262,144 wide row of logits a token


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
    on_poll: Callable[[], None] = lambda: None,
) -> Told:
    """Run a task of `llama_child`.

    Args:
        task: its name there.
        request: its arguments.
        scratch: an existing folder for the request, the result and the log.
        file_bytes: size of the model file; the memory limit is twice that and 6 GiB.
        timeout_s: killed after this long.
        on_poll: called while it runs.
    """
    asked, answered = scratch / "request.json", scratch / RESULT
    answered.unlink(missing_ok=True)
    asked.write_text(json.dumps(request), encoding="utf-8")
    ended = run_child(
        ["-m", "xmlgrpo_exporter.llama_child", task, str(asked)],
        log=scratch / f"{task}.log",
        timeout_s=timeout_s,
        memory_bytes=2 * file_bytes + BASE_GIB * GIB,
        on_poll=on_poll,
    )
    if not ended.ok or not answered.is_file():
        last = ended.log_tail.strip().splitlines()[-1:]
        why = f"llama.cpp {ended.why or 'gave no result'}" + "".join(f": {line}" for line in last)
        return Told(None, why, ended.seconds)
    return Told(json.loads(answered.read_text(encoding="utf-8")), "", ended.seconds)
