"""Which tokens end a reply; without torch, since a tokenizer alone says it."""

from typing import Any

END_OF_TURN = "<end_of_turn>"


def stop_ids(configured: Any, tokenizer: Any) -> list[int]:
    """The ids that end a reply: the tokenizer's EOS, the generation config's, `<end_of_turn>`.

    Gemma 3 ends its turns with `<end_of_turn>` while `tokenizer.eos_token_id` is `<eos>`; a model
    that stops at only one of them runs to the length limit.

    Args:
        configured: `eos_token_id` of the generation configuration (one id, several, or None), or
            the transformers model that has one.
    """
    if hasattr(configured, "generation_config"):
        configured = configured.generation_config.eos_token_id
    ids = {tokenizer.eos_token_id, end_of_turn_id(tokenizer)}
    ids.update(configured if isinstance(configured, list) else [configured])
    return sorted(token for token in ids if token is not None)


def end_of_turn_id(tokenizer: Any) -> int | None:
    """The id of `<end_of_turn>`; None when the vocabulary has no such token."""
    token: int | None = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    return None if token == tokenizer.unk_token_id else token
