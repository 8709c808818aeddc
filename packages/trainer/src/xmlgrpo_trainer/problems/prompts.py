"""Questions -> token ids, the one way that training, held-out evaluation and `ask` share.

The chat template writes the text, and its text is tokenised without adding special tokens: the
template already starts with `<bos>`, and a second one changes what the model answers.
"""

from collections.abc import Sequence
from typing import Any

from xmlgrpo_rewards.errors import UserError

Messages = list[dict[str, str]]


def encode_prompts(tokenizer: Any, conversations: Sequence[Messages]) -> list[list[int]]:
    """Tokenise conversations, each ready for the model's turn, into unpadded lists of ids.

    Raises:
        UserError: the tokenizer has no chat template, a prompt does not hold exactly one BOS, or it
            holds the token that stands for an image.
    """
    if not conversations:
        return []
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "the model's tokenizer has no chat template; use an instruction-tuned model "
            "(for Gemma 3 a name that ends in -it)"
        )
    texts = tokenizer.apply_chat_template(
        list(conversations), tokenize=False, add_generation_prompt=True
    )
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    image = getattr(tokenizer, "image_token_id", None)  # Gemma's small models have no row for it
    for ids, conversation in zip(encoded, conversations, strict=True):
        prompt = f"the prompt for {conversation[-1]['content'][:80]!r}"
        count = ids.count(bos)
        if bos is not None and (count > 1 or (count == 1 and ids[0] != bos)):
            raise UserError(
                f"{prompt} holds {count} <bos> tokens, expected one, at its start: the chat "
                "template repeats it, or the question contains the text "
                f"{tokenizer.bos_token!r}"
            )
        if image is not None and image in ids:
            raise UserError(
                f"{prompt} holds {tokenizer.image_token!r}, which stands for an image, and there "
                "is no image with it; leave the question out"
            )
    return encoded
