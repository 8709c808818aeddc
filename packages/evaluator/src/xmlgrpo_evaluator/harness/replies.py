"""A reply that knows how long it was.

lm-eval passes replies on as plain text, so a task cannot see how many tokens one took or whether
it was cut off.  A `CountedReply` is that text with the two facts on it: our models return it, and
lm-eval hands it to the task unchanged.
"""

from typing import Self


class CountedReply(str):
    """The text of a reply, with its length in tokens.

    Attributes:
        tokens: tokens written, the one that ended the reply included, as in training.
        truncated: the reply was cut off at the limit.
    """

    __slots__ = ("tokens", "truncated")
    tokens: int
    truncated: bool

    def __new__(cls, text: str, *, tokens: int, truncated: bool) -> Self:
        """Make one from the text and what is known of it."""
        reply = super().__new__(cls, text)
        reply.tokens, reply.truncated = tokens, truncated
        return reply
