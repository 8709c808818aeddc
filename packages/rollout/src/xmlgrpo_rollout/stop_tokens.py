"""Which tokens end a reply, and where it ends; without torch: a tokenizer is enough."""

from collections.abc import Collection, Sequence
from typing import Any

END_OF_TURN = "<end_of_turn>"
# what ends a turn in the other families' chat templates; a base model's EOS ends a document
TURN_ENDS = (END_OF_TURN, "<|im_end|>", "<|eot_id|>")


def stop_ids(configured: Any, tokenizer: Any) -> list[int]:
    """The ids that end a reply: the tokenizer's EOS, the generation config's, and ends of turns.

    Gemma 3 ends its turns with `<end_of_turn>` while `tokenizer.eos_token_id` is `<eos>`, and base
    models of other families know no more than the end of a document; a model that stops at only one
    of them runs to the length limit.

    Args:
        configured: `eos_token_id` of the generation configuration (one id, several, or None), or
            the transformers model that has one.
    """
    if hasattr(configured, "generation_config"):
        configured = configured.generation_config.eos_token_id
    ids = {tokenizer.eos_token_id, *(_id_of(token, tokenizer) for token in TURN_ENDS)}
    ids.update(configured if isinstance(configured, list) else [configured])
    return sorted(token for token in ids if token is not None)


def end_of_turn_id(tokenizer: Any) -> int | None:
    """The id of `<end_of_turn>`; None when the vocabulary has no such token."""
    return _id_of(END_OF_TURN, tokenizer)


def _id_of(text: str, tokenizer: Any) -> int | None:
    token: int | None = tokenizer.convert_tokens_to_ids(text)
    return None if token == tokenizer.unk_token_id else token


def cut_after_stop(tokens: Sequence[int], stop_ids: Collection[int]) -> list[int]:
    """The tokens up to and with the first stop token; all of them where there is none."""
    for place, token in enumerate(tokens):
        if token in stop_ids:
            return list(tokens[: place + 1])
    return list(tokens)
