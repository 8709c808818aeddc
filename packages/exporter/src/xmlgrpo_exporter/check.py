"""The gates of a GGUF file: is it the model that was trained, and will it be asked as it was?

Eight gates, each with its numbers: the file is whole; its token ids are the tokenizer's; a prompt
holds one BOS on every route; its template is the one trained with; the ids that end a reply end it
in llama.cpp; it loads and answers within limits; its distributions are near the merged model's; its
greedy replies are the same.
"""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmlgrpo_exporter.bench import Bench
from xmlgrpo_exporter.distance import Distance, compare_logits, identical
from xmlgrpo_exporter.fingerprint import sha256_of
from xmlgrpo_exporter.gate import Gate, all_passed
from xmlgrpo_exporter.gguf_header import BadGgufError, GgufHeader, read_header
from xmlgrpo_exporter.llama import Told, ask_llama, threads
from xmlgrpo_exporter.quant_types import GivenLimits, Limits, limits_for, quant_of
from xmlgrpo_exporter.reference import END_OF_TURN, end_of_turn_id

CONTROL_TOKEN = 3  # llama_token_type
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
    path: Path, bench: Bench, *, given: GivenLimits, timeout_s: float, name: str | None = None
) -> FileCheck:
    """Put one file through the gates.

    Args:
        path: the GGUF file, which need not be ours.
        bench: what it is held against.
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
        return FileCheck(shown, "unknown", size, sha256_of(path) if size else "", (gate,))
    quant = quant_of(header.metadata.get("general.file_type"))
    size = path.stat().st_size
    gates = [
        Gate("file", passed=True, found={"bytes": size, "tensors": len(header.tensors)}),
    ]
    with tempfile.TemporaryDirectory(prefix="xmlgrpo-check-") as scratch:
        read = _read_vocabulary(path, size, bench, Path(scratch))
        gates += vocabulary_gates(header, read, bench)
        measured = _measure(path, size, bench, timeout_s, Path(scratch))
        gates += answer_gates(
            measured, bench, limits_for(quant, given), timeout_s, Path(scratch) / "logits.f32"
        )
    answer = measured.result["answer"] if measured.result else ""
    return FileCheck(shown, quant, size, sha256_of(path), tuple(gates), answer)


def _read_vocabulary(path: Path, size: int, bench: Bench, scratch: Path) -> Told:
    request = {
        "file": str(path.absolute()),
        "texts": bench.texts,
        "conversations": bench.chats,
        "stop_ids": list(bench.reference.stop_ids),
    }
    return ask_llama(
        "read_vocabulary",
        request,
        scratch=scratch,
        file_bytes=size,
        timeout_s=VOCABULARY_TIMEOUT_S,
    )


def _measure(path: Path, size: int, bench: Bench, timeout_s: float, scratch: Path) -> Told:
    request = {
        "file": str(path.absolute()),
        "prompts": bench.ids[: len(bench.replies)],
        "replies": bench.replies,
        "new_tokens": bench.new_tokens,
        "conversation": bench.chats[0],
        "threads": threads(),
    }
    return ask_llama("measure", request, scratch=scratch, file_bytes=size, timeout_s=timeout_s)


def vocabulary_gates(header: GgufHeader, read: Told, bench: Bench) -> list[Gate]:
    """Tokens, BOS, template and stop ids."""
    if read.result is None:
        return [Gate("tokens", passed=False, why=f"the vocabulary cannot be read: {read.why}")]
    return [
        tokens_gate(read.result, bench),
        bos_gate(read.result, bench),
        template_gate(header, read.result, bench),
        stop_gate(header, read.result, bench),
    ]


def tokens_gate(read: dict[str, Any], bench: Bench) -> Gate:
    """The file's ids of every prompt are the tokenizer's."""
    wrong = [i for i, ids in enumerate(bench.ids) if read["ids"][i] != ids]
    why = ""
    if wrong:
        ours, theirs = bench.ids[wrong[0]], read["ids"][wrong[0]]
        at = next(
            (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
            min(len(ours), len(theirs)),
        )
        why = (
            f"{len(wrong)} of {len(bench.ids)} prompts are split otherwise, the first at token "
            f"{at}: {ours[at : at + 4]} became {theirs[at : at + 4]}. The tokenizer files were "
            "incomplete when it was converted; convert it again with xmlgrpo-export gguf"
        )
    found = {"mismatches": len(wrong), "prompts": len(bench.ids), "source": bench.source}
    return Gate("tokens", not wrong, found, {"mismatches": 0}, why)


def bos_gate(read: dict[str, Any], bench: Bench) -> Gate:
    """A prompt holds one BOS at its start, through chat requests and through added specials.

    A model whose own prompts have none (some other families) must get none.
    """
    bos = bench.reference.tokenizer.bos_token_id
    expected = int(bos is not None and bench.ids[0][:1] == [bos])
    found: dict[str, Any] = {}
    wrong = 0
    for route in ("chat_ids", "raw_ids"):
        counts = Counter(_bos_count(ids, bos) for ids in read[route])
        found[route.removesuffix("_ids")] = {str(key): value for key, value in counts.items()}
        wrong += sum(value for key, value in counts.items() if key != expected)
    missing = len(bench.ids) - len(read["chat_ids"])
    why = ""
    if wrong or missing:
        why = (
            f"expected {expected} BOS at the start of every prompt, found otherwise in "
            f"{wrong + missing} cases ({found}): the template's BOS and add_bos_token do not fit"
        )
    return Gate("one_bos", not why, found, {"bos": expected}, why)


def _bos_count(ids: list[int], bos: int | None) -> int:
    """BOS ids at the start; one that stands further on counts as a hundred, being always wrong."""
    leading = 0
    while leading < len(ids) and ids[leading] == bos:
        leading += 1
    return leading + 100 * ids[leading:].count(bos if bos is not None else -1)


def template_gate(header: GgufHeader, read: dict[str, Any], bench: Bench) -> Gate:
    """The file's template is the model's, and renders every prompt alike."""
    same_text = header.metadata.get("tokenizer.chat_template") == bench.template
    rendered = read["chat_texts"]
    differing = len(bench.texts) - sum(a == b for a, b in zip(bench.texts, rendered, strict=False))
    why = ""
    if read["template_error"]:
        why = f"the file's chat template does not work: {read['template_error']}"
    elif differing or not same_text:
        why = (
            f"the file's chat template is not the one trained with; {differing} of "
            f"{len(bench.texts)} prompts come out otherwise, so the model is asked in a form it "
            "was not trained on"
        )
    found = {"same_text": same_text, "differing": differing, "prompts": len(bench.texts)}
    return Gate("template", not why, found, {"same_text": True, "differing": 0}, why)


def stop_gate(header: GgufHeader, read: dict[str, Any], bench: Bench) -> Gate:
    """Every id that ended a reply in training ends it in llama.cpp, and is a control token."""
    ends = read["ends_generation"]
    not_ending = [int(token) for token, does in ends.items() if not does]
    tokenizer = bench.reference.tokenizer
    found: dict[str, Any] = {
        "ends_generation": ends,
        "eos_id": read["eos_id"],
        "eot_id": read["eot_id"],
    }
    why = ""
    if not_ending:
        names = [tokenizer.convert_ids_to_tokens(token) for token in not_ending]
        why = f"{names} end a reply in training, but not in this file: replies would run on"
    turn_end = end_of_turn_id(tokenizer)
    if turn_end is not None:
        text = header.tokens[turn_end] if turn_end < len(header.tokens) else None
        kinds = header.metadata.get("tokenizer.ggml.token_type") or []
        kind = kinds[turn_end] if turn_end < len(kinds) else None
        found[END_OF_TURN] = {"id": turn_end, "text": text, "type": kind}
        if text != END_OF_TURN or kind != CONTROL_TOKEN:
            why = why or (
                f"token {turn_end} should be the control token {END_OF_TURN}, the file has "
                f"{text!r} of type {kind}"
            )
    return Gate("stop", not why, found, {"all_end_generation": True}, why)


def answer_gates(
    measured: Told, bench: Bench, limits: Limits, timeout_s: float, logits: Path
) -> list[Gate]:
    """Loads and answers, distance, greedy replies."""
    if measured.result is None:
        why = f"it does not load and answer: {measured.why}"
        found = {"seconds": round(measured.seconds, 1)}
        return [Gate("answers", passed=False, found=found, limit={"seconds": timeout_s}, why=why)]
    result = measured.result
    return [
        answers_gate(result, measured.seconds, timeout_s),
        distance_gate(_distance(result, bench, logits), limits),
        greedy_gate(identical(bench.replies, result["replies"]), len(bench.replies), limits),
    ]


def answers_gate(result: dict[str, Any], seconds: float, timeout_s: float) -> Gate:
    """A chat request through llama-cpp-python came back, in time and with words."""
    said = bool(result["answer"].strip())
    return Gate(
        "answers",
        said,
        found={
            "seconds": round(seconds, 1),
            "load_s": result["load_s"],
            "peak_gib": result["peak_gib"],
            "greedy_tokens_per_s": result["greedy_tokens_per_s"],
            "finish_reason": result["finish_reason"],
        },
        limit={"seconds": timeout_s},
        why="" if said else "asked the first question as a chat, it said nothing",
    )


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


def _distance(result: dict[str, Any], bench: Bench, logits: Path) -> Distance:
    import numpy as np

    rows = np.memmap(logits, dtype=np.float32, mode="r").reshape(-1, result["vocabulary"])
    distance, start = Distance(), 0
    for prompt, reply in zip(bench.ids, bench.replies, strict=False):
        ours = bench.reference.logits(prompt, reply)
        distance += compare_logits(ours, rows[start : start + len(reply)])
        start += len(reply)
    return distance
