"""Which token lies where in a packed row, and what is read off it.

A completion's last token is left out: nothing is predicted from it, and nothing sees it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens of one text that lie together: a prompt, or what was written after one.

    Attributes:
        start, length: its place in the row.
        prefix_start, prefix_length: the tokens before it in its text, which it sees too.
    """

    start: int
    length: int
    prefix_start: int = 0
    prefix_length: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """A micro-batch as one row of N tokens, with M tokens of B completions.

    Attributes:
        tokens: ids, (N,).
        places: each token's place in its own text, (N,).
        spans: of the row, in order; together they are all of it.
        reads: from which token of the row each completion's token is predicted, (M,).
        labels: those completions' tokens, (M,).
        is_completion: where they stand in trl's batch, row by row, (B, T).
    """

    tokens: Tensor
    places: Tensor
    spans: tuple[Span, ...]
    reads: Tensor
    labels: Tensor
    is_completion: Tensor


def pack(input_ids_B_T: Tensor, attention_mask_B_T: Tensor, completion_tokens: int) -> Layout:
    """Lay out trl's batch: prompts padded on the left, completions on the right.

    Args:
        input_ids_B_T, attention_mask_B_T: of both together; 0 is padding.
        completion_tokens: how many of the columns, at the end, are the completions'.
    """
    device, width = input_ids_B_T.device, input_ids_B_T.shape[1] - completion_tokens
    ids, seen = input_ids_B_T.tolist(), attention_mask_B_T.bool().tolist()
    members: dict[tuple[int, ...], list[int]] = {}
    for row, (text, is_seen) in enumerate(zip(ids, seen, strict=True)):
        members.setdefault(_kept(text[:width], is_seen[:width]), []).append(row)

    tokens: list[int] = []
    places: list[int] = []
    spans: list[Span] = []
    reads: list[list[int]] = [[] for _ in ids]
    written: list[tuple[int, ...]] = [()] * len(ids)
    for prompt, rows in members.items():
        first = len(tokens)
        spans.append(Span(first, len(prompt)))
        tokens += prompt
        places += range(len(prompt))
        for row in rows:
            written[row] = _kept(ids[row][width:], seen[row][width:])
            read = written[row][:-1]
            start = len(tokens)
            if written[row]:
                reads[row] = [first + len(prompt) - 1, *range(start, start + len(read))]
            if read:
                spans.append(Span(start, len(read), first, len(prompt)))
                tokens += read
                places += range(len(prompt), len(prompt) + len(read))

    def numbers(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return Layout(
        tokens=numbers(tokens),
        places=numbers(places),
        spans=tuple(spans),
        reads=numbers([place for row in reads for place in row]),
        labels=numbers([token for row in written for token in row]),
        is_completion=attention_mask_B_T[:, width:].bool(),
    )


def _kept(tokens: Sequence[int], is_seen: Sequence[bool]) -> tuple[int, ...]:
    return tuple(token for token, seen in zip(tokens, is_seen, strict=True) if seen)
