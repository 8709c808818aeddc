"""Attention of one new token a row over a cache of fixed size.

The cache is that of `keys.py`.  All rows are at the same place (they are padded on the left), which
the kernels read from memory: a captured graph fits every length.

The slots of a row are shared out among several programs, whose results are then put together
(as in Flash-Decoding, https://crfm.stanford.edu/2023/10/12/flashdecoding.html): 64 rows with one
key head each would leave half of an H100's 132 multiprocessors without work.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Measured on an H100 with 64 and 512 rows, 330 and 900 slots filled: 12.9 us for 64 rows and 330
# slots, where 64 slots a block, 4 warps and 8 splits took 19.3 us and reading alone takes 7.2 us.
BLOCK_SLOTS = 16
MIN_HEADS = 16  # tl.dot takes no fewer rows; the query heads of one key head are padded to it
PROGRAMS = 1024
MAX_SPLITS = 4
SPLIT_WARPS = 2


@triton.jit
def _attend_split(
    query,
    keys,
    values,
    at_place,
    padding,
    is_done,
    split_best,
    split_total,
    split_mixed,
    kv_heads,
    size,
    slots,
    SCALE: tl.constexpr,
    GROUP: tl.constexpr,
    HEADS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    pair = tl.program_id(0).to(tl.int64)  # of a row and a key head
    split, splits = tl.program_id(1), tl.num_programs(1)
    row = pair // kv_heads
    heads = tl.arange(0, HEADS)
    places = tl.arange(0, BLOCK)
    is_head, inside = heads < GROUP, places < size

    at = tl.load(at_place)
    pad = tl.load(padding + row)
    filled = tl.minimum(at + 1, slots)
    share = tl.cdiv(tl.cdiv(filled, splits), SLOTS) * SLOTS
    start = split * share
    stop = tl.minimum(start + share, filled)
    stop = tl.where(tl.load(is_done + row) != 0, start, stop)  # nobody reads a finished row's

    vectors = query + (pair * GROUP + heads[:, None]) * size + places[None, :]
    asked = tl.load(vectors, mask=is_head[:, None] & inside[None, :], other=0.0)
    best = tl.full([HEADS], -1e30, tl.float32)
    total = tl.zeros([HEADS], tl.float32)
    mixed = tl.zeros([HEADS, BLOCK], tl.float32)
    for first in range(start, stop, SLOTS):
        slot = first + tl.arange(0, SLOTS)
        is_slot = slot < stop
        # which token lies there: the newest of those that share the slot
        token = at - (at - slot + slots) % slots
        visible = is_slot & (token >= pad)
        there = (pair * slots + slot[:, None]) * size + places[None, :]
        there_mask = is_slot[:, None] & inside[None, :]
        key = tl.load(keys + there, mask=there_mask, other=0.0)
        scores = tl.dot(asked, tl.trans(key), input_precision="ieee")
        if SCALE != 1.0:
            scores *= SCALE
        scores = tl.where(visible[None, :], scores, -1e30)
        higher = tl.maximum(best, tl.max(scores, axis=1))
        weights = tl.where(visible[None, :], tl.exp(scores - higher[:, None]), 0.0)
        shrink = tl.exp(best - higher)
        total = total * shrink + tl.sum(weights, axis=1)
        value = tl.load(values + there, mask=there_mask, other=0.0)
        added = tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        mixed = mixed * shrink[:, None] + added
        best = higher
    out = (pair * splits + split) * GROUP + heads
    tl.store(split_best + out, best, mask=is_head)
    tl.store(split_total + out, total, mask=is_head)
    where = out[:, None] * size + places[None, :]
    tl.store(split_mixed + where, mixed, mask=is_head[:, None] & inside[None, :])


@triton.jit
def _combine_splits(
    split_best,
    split_total,
    split_mixed,
    mixed,
    size,
    splits,
    GROUP: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    pair = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    split = tl.arange(0, SPLITS)
    places = tl.arange(0, BLOCK)
    is_split, inside = split < splits, places < size
    parts = (pair * splits + split) * GROUP + head
    best = tl.load(split_best + parts, mask=is_split, other=-1e30)
    factors = tl.exp(best - tl.max(best, axis=0))
    total = tl.load(split_total + parts, mask=is_split, other=0.0)
    where = parts[:, None] * size + places[None, :]
    shares = tl.load(split_mixed + where, mask=is_split[:, None] & inside[None, :], other=0.0)
    result = tl.sum(shares * factors[:, None], axis=0)
    result = result / tl.maximum(tl.sum(total * factors, axis=0), 1e-30)  # a finished row: 0
    out = mixed + (pair * GROUP + head) * size + places
    tl.store(out, result.to(mixed.dtype.element_ty), mask=inside)


class SplitRoom:
    """Where the programs of one attention leave their parts; the same for every layer.

    Args:
        rows, kv_heads, group, head_dim: the attention's shape; `group` query heads a key head.
    """

    def __init__(
        self, rows: int, kv_heads: int, group: int, head_dim: int, device: torch.device
    ) -> None:
        pairs = rows * kv_heads
        self.splits = max(1, min(MAX_SPLITS, PROGRAMS // pairs))
        parts = (pairs, self.splits, group)
        self.best = torch.empty(parts, dtype=torch.float32, device=device)
        self.total = torch.empty(parts, dtype=torch.float32, device=device)
        self.mixed = torch.empty(*parts, head_dim, dtype=torch.float32, device=device)


def attend(
    query_R_N_D: Tensor,
    keys_R_K_S_D: Tensor,
    values_R_K_S_D: Tensor,
    at: Tensor,
    padding_R: Tensor,
    is_done_R: Tensor,
    room: SplitRoom,
    mixed_R_ND: Tensor,
    scale: float,
) -> None:
    """Mix the values that each row's new token may see into `mixed_R_ND`.

    Scores are multiplied by `scale`.  Rows that are done get anything finite.
    """
    rows, heads, size = query_R_N_D.shape
    kv_heads, slots = keys_R_K_S_D.shape[1:3]
    group = heads // kv_heads
    block = max(16, triton.next_power_of_2(size))
    parts = (room.best, room.total, room.mixed)
    _attend_split[(rows * kv_heads, room.splits)](
        query_R_N_D,
        keys_R_K_S_D,
        values_R_K_S_D,
        at,
        padding_R,
        is_done_R,
        *parts,
        kv_heads,
        size,
        slots,
        SCALE=scale,
        GROUP=group,
        HEADS=max(MIN_HEADS, triton.next_power_of_2(group)),
        SLOTS=BLOCK_SLOTS,
        BLOCK=block,
        num_warps=SPLIT_WARPS,
    )
    _combine_splits[(rows * kv_heads, group)](
        *parts,
        mixed_R_ND,
        size,
        room.splits,
        GROUP=group,
        SPLITS=triton.next_power_of_2(room.splits),
        BLOCK=block,
        num_warps=2,
    )
