"""The eight gates of a GGUF file: is it the model that was trained, and is it asked as that was?

The file is whole; its token ids are the tokenizer's; a prompt holds one BOS on every route; its
template is the one trained with; the ids that end a reply end it in llama.cpp; it loads and answers
within limits; its distributions are near the model's; its greedy replies are the same.  The header
is read in Python, vocabulary and answers by llama.cpp in a process of its own.
"""

import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from xmlgrpo_exporter.check.check_json import FileCheck, Gate
from xmlgrpo_exporter.check.distance import Distance, compare_logits, identical
from xmlgrpo_exporter.check.reference import Reference
from xmlgrpo_exporter.check.verdict import CONTROL_TOKEN
from xmlgrpo_exporter.convert.modelfile import modelfile
from xmlgrpo_exporter.quants import Limits, limits_for, quant_of
from xmlgrpo_gguf.header import BadGgufError, GgufHeader, read_header
from xmlgrpo_gguf.probe import LOGITS, OnProgress, run_job
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.stop_tokens import END_OF_TURN, end_of_turn_id
from xmlgrpo_run.digests import file_sha256, hash_ahead
from xmlgrpo_run.screen.progress import Stage

VOCABULARY_TIMEOUT_S = 120.0
SOURCE_REPLIES = 4
BLANK_SIGN = "\N{LOWER ONE EIGHTH BLOCK}"


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
    text = ""
    if all(gate.passed for gate in gates):  # else the template may be anybody's
        with suppress(UserError):  # a template that no Modelfile can be read off
            text = modelfile(path.name, header, reference.model.stop_ids, reference.system_text)
    return FileCheck(
        path.name,
        quant,
        size,
        file_sha256(path),
        (whole, *gates),
        answer,
        limits=reference.comparison.limits,
        modelfile=text,
        mtime_ns=path.stat().st_mtime_ns,
    )


def _ask_file(
    path: Path, header: GgufHeader, quant: str, reference: Reference
) -> tuple[list[Gate], str]:
    """The gates that need llama.cpp, and the file's answer to the first question."""
    comparison, replies = reference.comparison, reference.replies
    with (
        tempfile.TemporaryDirectory(prefix="xmlgrpo-check-") as scratch_name,
        Stage(comparison.console, f"gates of {quant}", total=len(replies), unit="replies") as stage,
    ):
        scratch = Path(scratch_name)
        vocabulary = run_job(
            "read_vocabulary",
            path,
            {
                "texts": reference.texts,
                "conversations": reference.chats,
                "stop_ids": list(reference.model.stop_ids),
            },
            scratch=scratch,
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
        # llama-cpp-python would render a template that never ends until the time limit
        is_chat = bool(reference.chats) and not vocabulary.result["template_error"]
        measured = run_job(
            "measure",
            path,
            {
                "prompts": reference.ids[: len(replies)],
                "replies": replies,
                "new_tokens": comparison.new_tokens,
                "conversation": reference.chats[0] if is_chat else None,
            },
            scratch=scratch,
            timeout_s=comparison.timeout_s,
            on_progress=on_progress,
        )
        result, seconds, timeout_s = measured.result, measured.seconds, comparison.timeout_s
        if result is None:
            found, limit = {"seconds": round(seconds, 1)}, {"seconds": timeout_s}
            why = f"it does not load and answer: {measured.why}"
            return [*gates, Gate("answers", passed=False, found=found, limit=limit, why=why)], ""
        limits = limits_for(quant, comparison.limits)
        distance = _distance(scratch / LOGITS, result["vocabulary"], reference, on_progress)
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


def _distance(
    logits: Path, vocabulary: int, reference: Reference, on_progress: OnProgress
) -> Distance:
    import numpy as np

    rows = np.memmap(logits, dtype=np.float32, mode="r").reshape(-1, vocabulary)
    distance, start = Distance(), 0
    for done, (prompt, reply) in enumerate(zip(reference.ids, reference.replies, strict=False)):
        on_progress("comparing", done)
        ours = reference.model.logits(prompt, reply)
        distance += compare_logits(ours, rows[start : start + len(reply)])
        start += len(reply)
    return distance


def tokens_gate(vocabulary: dict[str, Any], reference: Reference) -> Gate:
    """The file's ids of every prompt are the tokenizer's."""
    ids = reference.ids
    wrong = [i for i, ours in enumerate(ids) if vocabulary["ids"][i] != ours]
    why = ""
    if wrong:
        ours, theirs = ids[wrong[0]], vocabulary["ids"][wrong[0]]
        at = next(
            (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
            min(len(ours), len(theirs)),
        )
        why = (
            f"{len(wrong)} of {len(ids)} prompts are split otherwise, the first at token "
            f"{at}: {ours[at : at + 4]} became {theirs[at : at + 4]}. "
        )
        if all(BLANK_SIGN in reference.texts[i] for i in wrong):
            why += (
                f"All of them hold {BLANK_SIGN!r}, SentencePiece's sign for a blank, of which "
                "llama.cpp does not make what transformers does; leave these questions out (--data)"
            )
        else:
            why += (
                "The tokenizer files were incomplete when it was converted; convert it again with "
                ".venv/bin/xmlgrpo-export gguf"
            )
    source = reference.comparison.questions.source
    found = {"mismatches": len(wrong), "prompts": len(ids), "source": source}
    return Gate("tokens", not wrong, found, {"mismatches": 0}, why)


def bos_gate(vocabulary: dict[str, Any], reference: Reference) -> Gate:
    """A prompt holds one BOS at its start, through chat requests and through added specials.

    A model without a chat template is asked by the second route only.  A model whose own prompts
    have no BOS (some other families) must get none, and one whose template opens every turn with
    it (SmolLM2) as many as in training.
    """
    bos = reference.model.tokenizer.bos_token_id
    expected = int(reference.prompts_have_bos)
    found: dict[str, Any] = {}
    wrong = len(reference.chats) - len(vocabulary["chat_ids"])  # chats that were not rendered
    for route in ("chat", "raw") if reference.chats else ("raw",):
        pairs = zip(vocabulary[f"{route}_ids"], reference.ids, strict=False)
        counts = Counter(_bos_count(ids, ours, bos) for ids, ours in pairs)
        found[route] = {str(count): prompts for count, prompts in counts.items()}
        wrong += sum(prompts for count, prompts in counts.items() if count != expected)
    why = ""
    if wrong:
        why = (
            f"expected {expected} BOS at the start of every prompt, got another number in {wrong} "
            f"cases ({found}): the template's BOS and add_bos_token do not fit"
        )
    return Gate("one_bos", not why, found, {"bos": expected}, why)


def _bos_count(ids: list[int], in_training: list[int], bos: int | None) -> int:
    """BOS ids at the start; one that stands further on, and not in training, counts a hundred."""
    leading, further = _bos_places(ids, bos)
    return leading + 100 * abs(further - _bos_places(in_training, bos)[1])


def _bos_places(ids: list[int], bos: int | None) -> tuple[int, int]:
    """BOS ids at the start, and those further on."""
    leading = sum(1 for _ in takewhile(lambda token: token == bos, ids))
    return leading, sum(token == bos for token in ids) - leading


def template_gate(header: GgufHeader, vocabulary: dict[str, Any], reference: Reference) -> Gate:
    """The file's template is the model's, and renders every prompt alike."""
    in_file = header.metadata.get("tokenizer.chat_template")
    if reference.template is None:
        has = in_file is not None
        why = "the file has a chat template, the model it is compared with has none" if has else ""
        return Gate("template", not has, {"in_file": has}, {"in_file": False}, why)
    same_text, texts = in_file == reference.template, reference.texts
    rendered = vocabulary["chat_texts"]
    differing = len(texts) - sum(a == b for a, b in zip(texts, rendered, strict=False))
    why = ""
    if vocabulary["template_error"]:
        why = f"the file's chat template does not work: {vocabulary['template_error']}"
    elif differing or not same_text:
        why = (
            f"the file's chat template is not the one trained with; {differing} of "
            f"{len(texts)} prompts are rendered otherwise, so the model is asked in a form it "
            "was not trained on"
        )
    found = {"same_text": same_text, "differing": differing, "prompts": len(texts)}
    return Gate("template", not why, found, {"same_text": True, "differing": 0}, why)


def stop_gate(header: GgufHeader, vocabulary: dict[str, Any], reference: Reference) -> Gate:
    """Every id that ended a reply in training ends it in llama.cpp, and is a control token."""
    tokenizer = reference.model.tokenizer
    ends = vocabulary["ends_generation"]
    found: dict[str, Any] = {
        "ends_generation": ends,
        "eos_id": vocabulary["eos_id"],
        "eot_id": vocabulary["eot_id"],
    }
    why = ""
    if not_ending := [int(token) for token, does in ends.items() if not does]:
        names = [tokenizer.convert_ids_to_tokens(token) for token in not_ending]
        why = f"{names} end a reply in training, but not in this file: replies would run on"
    turn_end = end_of_turn_id(tokenizer)
    if turn_end is not None:
        text = header.tokens[turn_end] if turn_end < len(header.tokens) else None
        kinds = header.metadata.get("tokenizer.ggml.token_type")
        kind = kinds[turn_end] if isinstance(kinds, list) and turn_end < len(kinds) else None
        found[END_OF_TURN] = {"id": turn_end, "text": text, "type": kind}
        if text != END_OF_TURN or kind != CONTROL_TOKEN:
            why = why or (
                f"token {turn_end} should be the control token {END_OF_TURN}, the file has "
                f"{text!r} of type {kind}"
            )
    return Gate("stop", not why, found, {"all_end_generation": True}, why)


def answers_gate(
    measured: dict[str, Any], seconds: float, timeout_s: float, *, silent: bool
) -> Gate:
    """A request through llama-cpp-python is answered in time, with words.

    Words are not asked for where the model itself is `silent`.
    """
    answers = silent or bool(measured["answer"].strip())
    shown = ("load_s", "peak_gib", "greedy_tokens_per_s", "threads", "finish_reason")
    return Gate(
        "answers",
        answers,
        found={"seconds": round(seconds, 1), **{name: measured[name] for name in shown}},
        limit={"seconds": timeout_s},
        why="" if answers else "the answer to the first question is empty",
    )


def distance_gate(distance: Distance, limits: Limits) -> Gate:
    """The distributions along the reference's own replies are near enough."""
    passed = distance.within(limits)
    kl = f"{distance.mean_kl:.3g}" if distance.finite else "not a number"
    why = (
        f"mean KL {kl} (at most {limits.mean_kl:g}), same first token {distance.top1:.1%} (at "
        f"least {limits.top1:.0%}): quantized too far, or the file is damaged. Take more bits"
    )
    limit = {"mean_kl": limits.mean_kl, "top1": limits.top1}
    return Gate("distance", passed, distance.as_json(), limit, "" if passed else why)


def greedy_gate(same: int, prompts: int, limits: Limits) -> Gate:
    """Enough greedy replies are the reference's, token for token."""
    share = same / prompts
    passed = share >= limits.greedy_identical
    why = "" if passed else f"{same} of {prompts} greedy replies are the merged model's"
    found = {"identical": same, "prompts": prompts, "share": share}
    return Gate("greedy", passed, found, {"share": limits.greedy_identical}, why)
