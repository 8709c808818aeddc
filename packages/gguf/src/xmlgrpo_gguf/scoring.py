"""The log-probability of given continuations: what multiple-choice tasks and perplexity ask for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmlgrpo_gguf.context import SHARED, DecodingContext, Token, run_of
from xmlgrpo_gguf.model import GgufModel


@dataclass(frozen=True, slots=True)
class Scored:
    """The log-probability of a continuation, and whether greedy decoding would write it."""

    logprob: float
    is_greedy: bool


def score_pairs(
    model: GgufModel,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    slots: int,
    threads: int,
) -> Iterator[tuple[int, Scored]]:
    """Score pairs of context and continuation (token ids), pairs with one context together.

    Args:
        slots: most continuations at once.

    Yields:
        The index of a pair and its score, as they come.
    """
    by_context: dict[tuple[int, ...], list[int]] = {}
    for index, (context, _) in enumerate(pairs):
        by_context.setdefault(tuple(context), []).append(index)
    if not by_context:
        return
    longest = max(map(len, by_context))
    with DecodingContext(
        model,
        slots=min(slots, max(map(len, by_context.values()))),
        context=longest + max(len(continuation) for _, continuation in pairs),
        threads=threads,
        keep_window=0 < model.sliding_window <= longest,
    ) as decoding:
        for context, indices in by_context.items():
            yield from zip(
                indices, score(decoding, context, [pairs[i][1] for i in indices]), strict=True
            )


def score(
    decoding: DecodingContext, context: Sequence[int], continuations: Sequence[Sequence[int]]
) -> list[Scored]:
    """Score continuations of one context, which is decoded a single time; at least one id each."""
    decoding.clear()
    decoding.read(run_of(context[:-1], SHARED))
    [row] = decoding.logits([Token(context[-1], len(context) - 1, SHARED)])
    scores = [[_score_token(row, continuation[0])] for continuation in continuations]
    for wave in range(0, len(continuations), decoding.slots):
        chosen = range(len(continuations))[wave : wave + decoding.slots]
        _score_rest(decoding, len(context), continuations, scores, chosen)
    return [
        Scored(sum(s.logprob for s in parts), all(s.is_greedy for s in parts)) for parts in scores
    ]


def _score_rest(
    decoding: DecodingContext,
    start: int,
    continuations: Sequence[Sequence[int]],
    scores: list[list[Scored]],
    wave: Sequence[int],
) -> None:
    """Score all but the first token of some continuations, each in a sequence of its own."""
    steps = [
        (slot, index, offset)
        for slot, index in enumerate(wave, start=1)
        for offset in range(len(continuations[index]) - 1)
    ]
    for slot in range(1, len(wave) + 1):
        decoding.begin(slot)
    for first in range(0, len(steps), decoding.outputs):
        chunk = steps[first : first + decoding.outputs]
        rows = decoding.logits(
            [Token(continuations[i][offset], start + offset, slot) for slot, i, offset in chunk]
        )
        for row, (_, index, offset) in zip(rows, chunk, strict=True):
            scores[index].append(_score_token(row, continuations[index][offset + 1]))
    for slot in range(1, len(wave) + 1):
        decoding.forget(slot)


def _score_token(row: NDArray[np.float32], token: int) -> Scored:
    top = row.max()
    total = np.exp(row - top).sum(dtype=np.float64)
    return Scored(float(row[token] - top - np.log(total)), bool(row.argmax() == token))
