"""What the engine is asked and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Finish = Literal["end", "stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn.  The order is that of transformers: temperature first.

    Temperature 0 is greedy decoding, whatever the other values are.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request: token ids, and when to stop.

    `max_new` is the most tokens to write; `stops` are byte strings that end the reply and are cut
    off.
    """

    tokens: Sequence[int]
    max_new: int
    stops: Sequence[bytes] = ()
    sampling: Sampling = Sampling()


@dataclass(frozen=True, slots=True)
class Written:
    """What was written for one request.

    Attributes:
        text: decoded; bytes that are no UTF-8 become U+FFFD.
        tokens: how many were written, the one that ended the reply included.
        finish: `end` for the model's own end, `stop` for a stop string, `length` when cut off.
    """

    text: str
    tokens: int
    finish: Finish


@dataclass(frozen=True, slots=True)
class Scored:
    """The log-probability of a continuation, and whether greedy decoding would write it."""

    logprob: float
    is_greedy: bool


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; the last token of each is never counted.

    A single prompt shares nothing.
    """
    if len(prompts) < 2:
        return 0
    # in sorted order the two ends differ the earliest
    low, high = min(map(tuple, prompts)), max(map(tuple, prompts))
    limit = min(len(p) for p in prompts) - 1
    for length in range(limit):
        if low[length] != high[length]:
            return length
    return limit
