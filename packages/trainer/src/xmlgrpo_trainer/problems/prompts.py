"""Questions -> token ids, the one way that training, held-out evaluation and `ask` share.

The chat template writes the text, and its text is tokenised without adding special tokens: the
template already starts with `<bos>`, and a second one changes what the model answers.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.prompt import Messages, check_bos, text_around, tokenizer_prompt


def encode_prompts(tokenizer: Any, conversations: Sequence[Messages]) -> list[list[int]]:
    """Tokenise conversations, each ready for the model's turn, into unpadded lists of ids.

    Raises:
        UserError: the tokenizer has no chat template, or one that cannot write what is asked; a
            prompt holds a BOS too many, or the token that stands for an image.
    """
    if not conversations:
        return []
    write = partial(tokenizer_prompt, tokenizer)
    prompts = [write(conversation) for conversation in conversations]
    around = text_around(write, prompts[0].chat)  # a task's conversations have the same turns
    texts = [around, *(prompt.text for prompt in prompts)]
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    ids_around, *encoded = ids
    bos = tokenizer.bos_token_id
    image = getattr(tokenizer, "image_token_id", None)  # Gemma's small models have no row for it
    for prompt_ids, conversation in zip(encoded, conversations, strict=True):
        prompt = f"the prompt for {conversation[-1]['content'][:80]!r}"
        if bos is not None:
            check_bos(prompt_ids, ids_around, bos, tokenizer.bos_token, prompt)
        if image is not None and image in prompt_ids:
            raise UserError(
                f"{prompt} holds {tokenizer.image_token!r}, which stands for an image, and there "
                "is no image with it; leave the question out"
            )
    return encoded
