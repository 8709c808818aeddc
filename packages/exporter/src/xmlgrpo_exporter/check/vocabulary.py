"""Is the file asked as the model was trained? Token ids, BOS, template, stop ids."""

from collections import Counter
from typing import Any

from xmlgrpo_exporter.check.exam import Bench
from xmlgrpo_exporter.check.gate import Gate
from xmlgrpo_gguf.header import GgufHeader
from xmlgrpo_gguf.probe import Outcome
from xmlgrpo_rollout.stop_tokens import END_OF_TURN, end_of_turn_id

CONTROL_TOKEN = 3  # llama_token_type
BLANK_SIGN = "\N{LOWER ONE EIGHTH BLOCK}"


def vocabulary_gates(header: GgufHeader, read: Outcome, bench: Bench) -> list[Gate]:
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
            f"{at}: {ours[at : at + 4]} became {theirs[at : at + 4]}. "
        )
        if all(BLANK_SIGN in bench.texts[i] for i in wrong):
            why += (
                f"All of them hold {BLANK_SIGN!r}, SentencePiece's sign for a blank, of which "
                "llama.cpp does not make what transformers does; leave these questions out (--data)"
            )
        else:
            why += (
                "The tokenizer files were incomplete when it was converted; convert it again with "
                "xmlgrpo-export gguf"
            )
    found = {"mismatches": len(wrong), "prompts": len(bench.ids), "source": bench.source}
    return Gate("tokens", not wrong, found, {"mismatches": 0}, why)


def bos_gate(read: dict[str, Any], bench: Bench) -> Gate:
    """A prompt holds one BOS at its start, through chat requests and through added specials.

    A model without a chat template is asked by the second route only.  A model whose own prompts
    have no BOS (some other families) must get none.
    """
    bos = bench.reference.tokenizer.bos_token_id
    expected = int(bench.brings_bos)
    found: dict[str, Any] = {}
    wrong = 0
    for route in ("chat_ids", "raw_ids") if bench.chats else ("raw_ids",):
        counts = Counter(_bos_count(ids, bos) for ids in read[route])
        found[route.removesuffix("_ids")] = {str(key): value for key, value in counts.items()}
        wrong += sum(value for key, value in counts.items() if key != expected)
    missing = len(bench.chats) - len(read["chat_ids"])
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
    if bench.template is None:
        has = "tokenizer.chat_template" in header.metadata
        why = "the file has a chat template, the model it is held against has none" if has else ""
        return Gate("template", not has, {"in_file": has}, {"in_file": False}, why)
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
        kinds = header.metadata.get("tokenizer.ggml.token_type")
        kind = kinds[turn_end] if isinstance(kinds, list) and turn_end < len(kinds) else None
        found[END_OF_TURN] = {"id": turn_end, "text": text, "type": kind}
        if text != END_OF_TURN or kind != CONTROL_TOKEN:
            why = why or (
                f"token {turn_end} should be the control token {END_OF_TURN}, the file has "
                f"{text!r} of type {kind}"
            )
    return Gate("stop", not why, found, {"all_end_generation": True}, why)
