"""The gates of a GGUF file: is it the model that was trained, and will it be asked as it was?

Eight gates, each with its numbers: the file is whole; its token ids are the tokenizer's; a prompt
holds one BOS on every route; its template is the one trained with; the ids that end a reply end it
in llama.cpp; it loads and answers within limits; its distributions are near the merged model's; its
greedy replies are the same.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_exporter.check.distance import Distance, compare_logits, identical
from xmlgrpo_exporter.check.exam import Bench
from xmlgrpo_exporter.check.gate import Gate, all_passed
from xmlgrpo_exporter.check.vocabulary import vocabulary_gates
from xmlgrpo_exporter.convert.quants import GivenLimits, Limits, limits_for, quant_of
from xmlgrpo_gguf.header import BadGgufError, read_header
from xmlgrpo_gguf.probe import LOGITS, OnProgress, Outcome, run_task
from xmlgrpo_run.digests import file_sha256, hash_ahead
from xmlgrpo_run.screen.progress import Stage

VOCABULARY_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What was found of one file.

    Attributes:
        file: its name.
        quant: its type.
        size_bytes: its size.
        sha256: its hash.
        gates: every gate that was asked.
        answer: what it said to the first question; empty when it did not come to that.
    """

    file: str
    quant: str
    size_bytes: int
    sha256: str
    gates: tuple[Gate, ...]
    answer: str = ""

    @property
    def passed(self) -> bool:
        """Whether every gate let it through."""
        return all_passed(self.gates)

    def as_json(self) -> dict[str, Any]:
        """For check.json; the file's name is the key there."""
        return {
            "passed": self.passed,
            "quant": self.quant,
            "bytes": self.size_bytes,
            "sha256": self.sha256,
            "gates": {gate.name: gate.as_json() for gate in self.gates},
            "answer": self.answer,
        }


def check_file(
    path: Path,
    bench: Bench,
    console: Console,
    *,
    given: GivenLimits,
    timeout_s: float,
    name: str | None = None,
) -> FileCheck:
    """Put one file through the gates.

    Args:
        path: the GGUF file, which need not be ours.
        bench: what it is held against.
        console: shows how far it is.
        given: limits that count instead of those of the file's type, where they are not None.
        timeout_s: longest time it may take to load and answer.
        name: to report it under; its own when None.
    """
    shown = name or path.name
    try:
        header = read_header(path)
    except BadGgufError as error:
        size = path.stat().st_size if path.is_file() else 0
        gate = Gate("file", passed=False, found={"bytes": size}, why=str(error))
        return FileCheck(shown, "unknown", size, file_sha256(path) if size else "", (gate,))
    quant = quant_of(header.metadata.get("general.file_type"))
    size = path.stat().st_size
    gates = [
        Gate("file", passed=True, found={"bytes": size, "tensors": len(header.tensors)}),
    ]
    hash_ahead([path], console, f"hashing {quant}")
    replies = len(bench.replies)
    with (
        tempfile.TemporaryDirectory(prefix="xmlgrpo-check-") as scratch,
        Stage(console, f"gates of {quant}", total=replies, unit="replies") as stage,
    ):
        read = _read_vocabulary(path, size, bench, Path(scratch))
        gates += vocabulary_gates(header, read, bench)
        answer = ""
        if read.result is not None:  # what hangs or crashes there is not given more time
            on_progress = _phases(stage, replies)
            measured = _measure(path, bench, timeout_s, Path(scratch), on_progress)
            logits = Path(scratch) / LOGITS
            limits = limits_for(quant, given)
            gates += answer_gates(
                measured, bench, limits, timeout_s, logits, on_progress=on_progress
            )
            answer = measured.result["answer"] if measured.result else ""
    return FileCheck(shown, quant, size, file_sha256(path), tuple(gates), answer)


def _read_vocabulary(path: Path, size: int, bench: Bench, scratch: Path) -> Outcome:
    request = {
        "file": str(path.absolute()),
        "texts": bench.texts,
        "conversations": bench.chats,
        "stop_ids": list(bench.reference.stop_ids),
    }
    return run_task(
        "read_vocabulary",
        request,
        scratch=scratch,
        file_bytes=size,
        timeout_s=VOCABULARY_TIMEOUT_S,
    )


def _phases(stage: Stage, replies: int) -> OnProgress:
    """Shows phases that go over the same replies one after the other, each with its own rate."""
    current = ""

    def on_progress(phase: str, done: float) -> None:
        nonlocal current
        if phase != current:
            current = phase
            stage.count_from(done, replies)
        stage.update(done, note=phase)

    return on_progress


def _measure(
    path: Path, bench: Bench, timeout_s: float, scratch: Path, on_progress: OnProgress
) -> Outcome:
    request = {
        "file": str(path.absolute()),
        "prompts": bench.ids[: len(bench.replies)],
        "replies": bench.replies,
        "new_tokens": bench.new_tokens,
        "conversation": bench.chats[0] if bench.chats else None,
    }
    return run_task(
        "measure",
        request,
        scratch=scratch,
        file_bytes=path.stat().st_size,
        timeout_s=timeout_s,
        on_progress=on_progress,
    )


def answer_gates(
    measured: Outcome,
    bench: Bench,
    limits: Limits,
    timeout_s: float,
    logits: Path,
    *,
    on_progress: OnProgress,
) -> list[Gate]:
    """Loads and answers, distance, greedy replies."""
    if measured.result is None:
        why = f"it does not load and answer: {measured.why}"
        found = {"seconds": round(measured.seconds, 1)}
        return [Gate("answers", passed=False, found=found, limit={"seconds": timeout_s}, why=why)]
    result = measured.result
    return [
        answers_gate(result, measured.seconds, timeout_s, silent=_is_silent(bench)),
        distance_gate(_distance(result, bench, logits, on_progress), limits),
        greedy_gate(identical(bench.replies, result["replies"]), len(bench.replies), limits),
    ]


def answers_gate(
    result: dict[str, Any], seconds: float, timeout_s: float, *, silent: bool = False
) -> Gate:
    """A request through llama-cpp-python came back, in time and with words.

    Words are not asked for where the merged model is `silent` itself.
    """
    said = silent or bool(result["answer"].strip())
    return Gate(
        "answers",
        said,
        found={
            "seconds": round(seconds, 1),
            "load_s": result["load_s"],
            "peak_gib": result["peak_gib"],
            "greedy_tokens_per_s": result["greedy_tokens_per_s"],
            "threads": result["threads"],
            "finish_reason": result["finish_reason"],
        },
        limit={"seconds": timeout_s},
        why="" if said else "asked the first question, it said nothing",
    )


def _is_silent(bench: Bench) -> bool:
    return set(bench.replies[0]) <= set(bench.reference.stop_ids)


def distance_gate(distance: Distance, limits: Limits) -> Gate:
    """The distributions along the merged model's own replies are near enough."""
    passed = distance.mean_kl <= limits.mean_kl and distance.top1 >= limits.top1
    why = ""
    if not passed:
        kl = f"{distance.mean_kl:.3g}" if distance.finite else "not a number"
        why = (
            f"mean KL {kl} (at most {limits.mean_kl:g}), same first token "
            f"{distance.top1:.1%} (at least {limits.top1:.0%}): quantized too far, or the file is "
            "damaged. Take more bits"
        )
    return Gate(
        "distance",
        passed,
        found=dict(distance.as_json()),
        limit={"mean_kl": limits.mean_kl, "top1": limits.top1},
        why=why,
    )


def greedy_gate(same: int, prompts: int, limits: Limits) -> Gate:
    """Enough greedy replies are the merged model's, token for token."""
    share = same / prompts
    passed = share >= limits.greedy_identical
    why = "" if passed else f"{same} of {prompts} greedy replies are the merged model's"
    return Gate(
        "greedy",
        passed,
        found={"identical": same, "prompts": prompts, "share": share},
        limit={"share": limits.greedy_identical},
        why=why,
    )


def _distance(
    result: dict[str, Any], bench: Bench, logits: Path, on_progress: OnProgress
) -> Distance:
    import numpy as np

    rows = np.memmap(logits, dtype=np.float32, mode="r").reshape(-1, result["vocabulary"])
    distance, start = Distance(), 0
    for done, (prompt, reply) in enumerate(zip(bench.ids, bench.replies, strict=False)):
        on_progress("comparing", done)
        ours = bench.reference.logits(prompt, reply)
        distance += compare_logits(ours, rows[start : start + len(reply)])
        start += len(reply)
    return distance
