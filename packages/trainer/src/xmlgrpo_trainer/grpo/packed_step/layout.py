"""Which token lies where in a packed row, and what is read off it.

A completion's last token is left out: nothing is predicted from it, and nothing sees it.

Laid out on the CPU, a row of the batch at a time, once for all layers: a GPU would get a launch for
every text and layer, which took longer than the layers themselves.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ids = NDArray[np.int64]


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

    @property
    def seen(self) -> int:
        """How many tokens its last one sees, itself included."""
        return self.prefix_length + self.length


@dataclass(frozen=True, slots=True)
class Visible:
    """What each span sees, as attention over texts of many lengths asks for it.

    Attributes:
        seen: the tokens before a span in its text, then its own; span after span, (S,).
        query_ends, key_ends: where spans begin and end in the row and in `seen`, (spans + 1,).
        most_queries, most_keys: of a span.
    """

    seen: Tensor
    query_ends: Tensor
    key_ends: Tensor
    most_queries: int
    most_keys: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A micro-batch as one row of N tokens, with M tokens of B completions.

    Attributes:
        tokens: ids, (N,).
        places: each token's place in its own text, (N,).
        spans: of the row, in order; together they are all of it.
        visible: the same for one call of attention.
        reads: from which token of the row each completion's token is predicted, (M,).
        labels: those completions' tokens, (M,).
        is_completion: where they stand in trl's batch, row by row, (B, T).
    """

    tokens: Tensor
    places: Tensor
    spans: tuple[Span, ...]
    visible: Visible
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
    is_seen_B_T = attention_mask_B_T.bool()
    ids, seen = input_ids_B_T.cpu().numpy(), is_seen_B_T.cpu().numpy()
    prompts = _kept(ids[:, :width], seen[:, :width])
    written = _kept(ids[:, width:], seen[:, width:])
    members: dict[bytes, list[int]] = {}
    for row, prompt in enumerate(prompts):
        members.setdefault(prompt.tobytes(), []).append(row)

    texts: list[Ids] = []
    spans: list[Span] = []
    reads: list[Ids] = [np.arange(0)] * len(ids)
    at = 0
    for rows in members.values():
        before = Span(at, len(prompts[rows[0]]))
        texts.append(prompts[rows[0]])
        spans.append(before)
        at += before.length
        for row in rows:
            read = written[row][:-1]
            if len(written[row]):
                reads[row] = np.arange(at - 1, at + len(read))
                reads[row][0] = before.start + before.length - 1
            if len(read):
                texts.append(read)
                spans.append(Span(at, len(read), before.start, before.length))
                at += len(read)

    return Layout(
        tokens=_numbers(texts, device),
        places=_numbers((np.arange(span.prefix_length, span.seen) for span in spans), device),
        spans=tuple(spans),
        visible=_visible(spans, device),
        reads=_numbers(reads, device),
        labels=_numbers(written, device),
        is_completion=is_seen_B_T[:, width:],
    )


def _kept(ids_B_T: Ids, is_seen_B_T: NDArray[np.bool_]) -> list[Ids]:
    return [ids[is_seen] for ids, is_seen in zip(ids_B_T, is_seen_B_T, strict=True)]


def _visible(spans: Sequence[Span], device: torch.device) -> Visible:
    places = (
        np.arange(start, start + length)
        for span in spans
        for start, length in ((span.prefix_start, span.prefix_length), (span.start, span.length))
    )

    def ends(lengths: list[int]) -> Tensor:
        return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)

    queries, keys = [span.length for span in spans], [span.seen for span in spans]
    return Visible(_numbers(places, device), ends(queries), ends(keys), max(queries), max(keys))


def _numbers(values: Iterable[Ids], device: torch.device) -> Tensor:
    return torch.from_numpy(np.concatenate(list(values))).to(device)
