"""Put a GGUF file through the eight gates.

The file is whole; its token ids are the tokenizer's; a prompt holds one BOS on every route; its
template is the one trained with; the ids that end a reply end it in llama.cpp; it loads and answers
within limits; its distributions are near the model's; its greedy replies are the same.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from xmlgrpo_exporter.check.distance import Distance, compare_logits, identical
from xmlgrpo_exporter.check.gates import (
    answers_gate,
    bos_gate,
    distance_gate,
    greedy_gate,
    stop_gate,
    template_gate,
    tokens_gate,
)
from xmlgrpo_exporter.check.reference import Reference
from xmlgrpo_exporter.check.verdict import FileCheck, Gate
from xmlgrpo_exporter.quants import limits_for, quant_of
from xmlgrpo_gguf.header import BadGgufError, GgufHeader, read_header
from xmlgrpo_gguf.probe import LOGITS, OnProgress, run_task
from xmlgrpo_run.digests import file_sha256, hash_ahead
from xmlgrpo_run.screen.progress import Stage

VOCABULARY_TIMEOUT_S = 120.0
SOURCE_REPLIES = 4


def check_source(path: Path, reference: Reference) -> FileCheck:
    """Put the file that others are quantized from through the gates: few replies, own limits.

    A wrong conversion shows here at a distance that would pass for a small type's rounding.
    """
    own_limits = replace(reference.comparison, limits={})
    replies = reference.replies[:SOURCE_REPLIES]
    return check_file(path, replace(reference, comparison=own_limits, replies=replies))


def check_file(path: Path, reference: Reference) -> FileCheck:
    """Put one file, which need not be ours, through the gates."""
    size = path.stat().st_size
    try:
        header = read_header(path)
    except BadGgufError as error:
        gate = Gate("file", passed=False, found={"bytes": size}, why=str(error))
        return FileCheck(path.name, "unknown", size, file_sha256(path), (gate,))
    quant = quant_of(header.metadata.get("general.file_type"))
    hash_ahead([path], reference.comparison.console, f"hashing {quant}")
    whole = Gate("file", passed=True, found={"bytes": size, "tensors": len(header.tensors)})
    gates, answer = _ask_file(path, header, quant, reference)
    return FileCheck(path.name, quant, size, file_sha256(path), (whole, *gates), answer)


def _ask_file(
    path: Path, header: GgufHeader, quant: str, reference: Reference
) -> tuple[list[Gate], str]:
    """The gates that need llama.cpp, and the file's answer to the first question."""
    comparison, replies = reference.comparison, reference.replies
    size = path.stat().st_size
    with (
        tempfile.TemporaryDirectory(prefix="xmlgrpo-check-") as scratch_name,
        Stage(comparison.console, f"gates of {quant}", total=len(replies), unit="replies") as stage,
    ):
        scratch = Path(scratch_name)
        vocabulary = run_task(
            "read_vocabulary",
            {
                "file": str(path.absolute()),
                "texts": reference.texts,
                "conversations": reference.chats,
                "stop_ids": list(reference.model.stop_ids),
            },
            scratch=scratch,
            file_bytes=size,
            timeout_s=VOCABULARY_TIMEOUT_S,
        )
        if vocabulary.result is None:  # what hangs or crashes here is not given more time
            why = f"the vocabulary cannot be read: {vocabulary.why}"
            return [Gate("tokens", passed=False, why=why)], ""
        gates = [
            tokens_gate(vocabulary.result, reference),
            bos_gate(vocabulary.result, reference),
            template_gate(header, vocabulary.result, reference),
            stop_gate(header, vocabulary.result, reference),
        ]
        on_progress = _phases(stage, len(replies))
        measured = run_task(
            "measure",
            {
                "file": str(path.absolute()),
                "prompts": reference.ids[: len(replies)],
                "replies": replies,
                "new_tokens": comparison.new_tokens,
                "conversation": reference.chats[0] if reference.chats else None,
            },
            scratch=scratch,
            file_bytes=size,
            timeout_s=comparison.timeout_s,
            on_progress=on_progress,
        )
        result, seconds, timeout_s = measured.result, measured.seconds, comparison.timeout_s
        if result is None:
            why = f"it does not load and answer: {measured.why}"
            found, limit = {"seconds": round(seconds, 1)}, {"seconds": timeout_s}
            return [*gates, Gate("answers", passed=False, found=found, limit=limit, why=why)], ""
        limits = limits_for(quant, comparison.limits)
        rows = _logits(scratch / LOGITS, result["vocabulary"])
        distance = _distance(rows, reference, on_progress)
        same = identical(replies, result["replies"])
        gates += [
            answers_gate(result, seconds, timeout_s, silent=reference.is_silent),
            distance_gate(distance, limits),
            greedy_gate(same, len(replies), limits),
        ]
        return gates, result["answer"]


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


def _logits(file: Path, vocabulary: int) -> Any:
    import numpy as np

    return np.memmap(file, dtype=np.float32, mode="r").reshape(-1, vocabulary)


def _distance(rows: Any, reference: Reference, on_progress: OnProgress) -> Distance:
    distance, start = Distance(), 0
    for done, (prompt, reply) in enumerate(zip(reference.ids, reference.replies, strict=False)):
        on_progress("comparing", done)
        ours = reference.model.logits(prompt, reply)
        distance += compare_logits(ours, rows[start : start + len(reply)])
        start += len(reply)
    return distance
