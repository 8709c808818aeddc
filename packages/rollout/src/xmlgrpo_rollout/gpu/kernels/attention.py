"""Attention of one new token a row over a cache of fixed size.

The cache is that of `keys.py`.  All rows are at the same place (they are padded on the left), which
the kernels read from memory: a captured graph fits every length.

The slots of a row are shared out among several programs, whose results are then put together
(as in Flash-Decoding, https://crfm.stanford.edu/2023/10/12/flashdecoding.html): 64 rows with one
key head each would leave half of an H100's 132 multiprocessors without work.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from xmlgrpo_rollout.gpu.kernels.early import launch, wait_and_release
from xmlgrpo_rollout.gpu.kernels.keys import norms_of, turned_heads
from xmlgrpo_rollout.recipe import Recipe
from xmlgrpo_rollout.weights import LayerWeights

# Measured on an H100 with 64 and 512 rows, 330 and 900 slots filled: 12.9 us for 64 rows and 330
# slots, where 64 slots a block, 4 warps and 8 splits took 19.3 us and reading alone takes 7.2 us.
BLOCK_SLOTS = 16
MIN_HEADS = 16  # tl.dot takes no fewer rows; the query heads of one key head are padded to it
PROGRAMS = 1024
MAX_SPLITS = 4
SPLIT_WARPS = 2


@triton.jit
def _mixed_share(
    asked,
    keys,
    values,
    at,
    pad,
    start,
    stop,
    pair,
    source,
    drawn_from,
    size,
    slots,
    SCALE: tl.constexpr,
    HEADS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    SHARED: tl.constexpr,
):
    """The largest score, the sum of weights and the mixed values of slots `start` to `stop`.

    A shared prompt's are those of the pair `source`.
    """
    places = tl.arange(0, BLOCK)
    inside = places < size
    best = tl.full([HEADS], -1e30, tl.float32)
    total = tl.zeros([HEADS], tl.float32)
    mixed = tl.zeros([HEADS, BLOCK], tl.float32)
    for first in range(start, stop, SLOTS):
        slot = first + tl.arange(0, SLOTS)
        is_slot = slot < stop
        # which token lies there: the newest of those that share the slot
        token = at - (at - slot + slots) % slots
        visible = is_slot & (token >= pad)
        holder = pair + tl.zeros_like(slot)
        if SHARED:
            holder = tl.where(token < drawn_from, source, holder)
        there = (holder * slots + slot)[:, None] * size + places[None, :]
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
    return best, total, mixed


@triton.jit
def _share_of(at, is_done, row, slots, split, splits, SLOTS: tl.constexpr):
    """The first slot of a program, the one after its last, and how many each program has."""
    filled = tl.minimum(at + 1, slots)
    share = tl.cdiv(tl.cdiv(filled, splits), SLOTS) * SLOTS
    start = split * share
    stop = tl.minimum(start + share, filled)
    stop = tl.where(tl.load(is_done + row) != 0, start, stop)  # nobody reads a finished row's
    return start, stop, share


@triton.jit
def _source_of(pair, row, kv_heads, at, sources, step_place, SHARED: tl.constexpr):
    """The pair that holds the prompt for this one, and the first token that is not the prompt's."""
    source, drawn_from = pair, at
    if SHARED:
        source = tl.load(sources + row).to(tl.int64) * kv_heads + pair % kv_heads
        drawn_from = at - tl.load(step_place) + 1
    return source, drawn_from


@triton.jit
def _leave_share(
    best,
    total,
    mixed,
    split_best,
    split_total,
    split_mixed,
    part,
    size,
    GROUP: tl.constexpr,
    HEADS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    heads = tl.arange(0, HEADS)
    places = tl.arange(0, BLOCK)
    is_head, inside = heads < GROUP, places < size
    out = part * GROUP + heads
    tl.store(split_best + out, best, mask=is_head)
    tl.store(split_total + out, total, mask=is_head)
    where = out[:, None] * size + places[None, :]
    tl.store(split_mixed + where, mixed, mask=is_head[:, None] & inside[None, :])


@triton.jit
def _attend_split(
    query,
    keys,
    values,
    at_place,
    padding,
    is_done,
    sources,
    step_place,
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
    SHARED: tl.constexpr,
    EARLY: tl.constexpr,
):
    wait_and_release(EARLY)
    pair = tl.program_id(0).to(tl.int64)  # of a row and a key head
    split, splits = tl.program_id(1), tl.num_programs(1)
    row = pair // kv_heads
    heads = tl.arange(0, HEADS)
    places = tl.arange(0, BLOCK)
    is_head, inside = heads < GROUP, places < size

    at = tl.load(at_place)
    pad = tl.load(padding + row)
    start, stop, _ = _share_of(at, is_done, row, slots, split, splits, SLOTS)
    source, drawn_from = _source_of(pair, row, kv_heads, at, sources, step_place, SHARED)

    vectors = query + (pair * GROUP + heads[:, None]) * size + places[None, :]
    asked = tl.load(vectors, mask=is_head[:, None] & inside[None, :], other=0.0)
    best, total, mixed = _mixed_share(
        asked,
        keys,
        values,
        at,
        pad,
        start,
        stop,
        pair,
        source,
        drawn_from,
        size,
        slots,
        SCALE,
        HEADS,
        SLOTS,
        BLOCK,
        SHARED,
    )
    _leave_share(
        best,
        total,
        mixed,
        split_best,
        split_total,
        split_mixed,
        pair * splits + split,
        size,
        GROUP,
        HEADS,
        BLOCK,
    )


@triton.jit
def _combine(
    split_best,
    split_total,
    split_mixed,
    mixed,
    pair,
    splits,
    heads,
    size,
    GROUP: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Put a pair's parts together, in their order, so that the sum is always the same."""
    places = tl.arange(0, BLOCK)
    is_head, inside = heads < GROUP, places < size
    first = pair * splits * GROUP + heads
    # not from a multiprocessor's own cache, which may hold what was there before
    top = tl.load(split_best + first, mask=is_head, other=-1e30, cache_modifier=".cg")
    for split in tl.static_range(1, SPLITS):
        there = is_head & (split < splits)
        part = first + split * GROUP
        best = tl.load(split_best + part, mask=there, other=-1e30, cache_modifier=".cg")
        top = tl.maximum(top, best)
    total = tl.zeros_like(top)
    result = tl.zeros_like(top)[:, None] + tl.zeros([BLOCK], tl.float32)[None, :]
    for split in tl.static_range(SPLITS):
        there = is_head & (split < splits)
        part = first + split * GROUP
        best = tl.load(split_best + part, mask=there, other=-1e30, cache_modifier=".cg")
        weight = tl.load(split_total + part, mask=there, other=0.0, cache_modifier=".cg")
        share = tl.load(
            split_mixed + part[:, None] * size + places[None, :],
            mask=there[:, None] & inside[None, :],
            other=0.0,
            cache_modifier=".cg",
        )
        factor = tl.exp(best - top)
        total += weight * factor
        result += share * factor[:, None]
    result = result / tl.maximum(total, 1e-30)[:, None]  # a finished row: 0
    out = mixed + (pair * GROUP + heads[:, None]) * size + places[None, :]
    tl.store(out, result.to(mixed.dtype.element_ty), mask=is_head[:, None] & inside[None, :])


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
    EARLY: tl.constexpr,
):
    wait_and_release(EARLY)
    pair = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) + tl.arange(0, 1)
    _combine(
        split_best,
        split_total,
        split_mixed,
        mixed,
        pair,
        splits,
        heads,
        size,
        GROUP,
        SPLITS,
        BLOCK,
    )


@triton.jit
def _attend_token(
    joint,
    query_weight,
    key_weight,
    cosine,
    sine,
    keys,
    values,
    at_place,
    padding,
    is_done,
    sources,
    step_place,
    split_best,
    split_total,
    split_mixed,
    arrived,
    mixed,
    kv_heads,
    size,
    turned,
    slots,
    eps,
    SCALE: tl.constexpr,
    HAS_NORM: tl.constexpr,
    ROUNDS_FIRST: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    HEADS: tl.constexpr,
    SLOTS: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
    SHARED: tl.constexpr,
    EARLY: tl.constexpr,
):
    wait_and_release(EARLY)
    pair = tl.program_id(0).to(tl.int64)  # of a row and a key head
    split, splits = tl.program_id(1), tl.num_programs(1)
    row, kv_head = pair // kv_heads, pair % kv_heads
    heads = tl.arange(0, HEADS)
    places = tl.arange(0, BLOCK)
    inside = places < size
    at = tl.load(at_place)
    pad = tl.load(padding + row)
    start, stop, share = _share_of(at, is_done, row, slots, split, splits, SLOTS)
    source, drawn_from = _source_of(pair, row, kv_heads, at, sources, step_place, SHARED)
    place = tl.maximum(at - pad, 0).to(tl.int64)
    slot = at % slots
    of_row = joint + row * (GROUP + 2) * kv_heads * size
    key_at = of_row + (GROUP * kv_heads + kv_head) * size
    if slot // share == split:  # only this program reads the new token's slot
        there = (pair * slots + slot) * size + places
        # as a row for each of two warps: the norm is added up in the order of `store_token`
        line = tl.arange(0, 2)[:, None]
        is_key = (line == 0) & inside[None, :]
        key = turned_heads(
            key_at + line * 0,
            places[None, :],
            is_key,
            key_weight,
            cosine,
            sine,
            place,
            size,
            turned,
            eps,
            keys,
            HAS_NORM,
            ROUNDS_FIRST,
        )
        tl.store(keys + there[None, :] + line * 0, key, mask=is_key)
        value = tl.load(key_at + kv_heads * size + places, mask=inside, other=0.0)
        tl.store(values + there, value, mask=inside)
    asked = turned_heads(
        of_row + (kv_head * GROUP + heads[:, None]) * size,
        places[None, :],
        (heads < GROUP)[:, None] & inside[None, :],
        query_weight,
        cosine,
        sine,
        place,
        size,
        turned,
        eps,
        keys,
        HAS_NORM,
        ROUNDS_FIRST,
    ).to(keys.dtype.element_ty)
    tl.debug_barrier()  # all threads of this program see the new key and value
    best, total, part = _mixed_share(
        asked,
        keys,
        values,
        at,
        pad,
        start,
        stop,
        pair,
        source,
        drawn_from,
        size,
        slots,
        SCALE,
        HEADS,
        SLOTS,
        BLOCK,
        SHARED,
    )
    _leave_share(
        best,
        total,
        part,
        split_best,
        split_total,
        split_mixed,
        pair * splits + split,
        size,
        GROUP,
        HEADS,
        BLOCK,
    )
    tl.debug_barrier()  # all of its parts are written before it is counted
    if tl.atomic_add(arrived + pair, 1, sem="acq_rel", scope="gpu") == splits - 1:
        _combine(
            split_best,
            split_total,
            split_mixed,
            mixed,
            pair,
            splits,
            tl.arange(0, GROUP_BLOCK),
            size,
            GROUP,
            SPLITS,
            BLOCK,
        )
        tl.store(arrived + pair, 0)  # for the next layer


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
        self.arrived = torch.zeros(pairs, dtype=torch.int32, device=device)


class SharedPrompts(NamedTuple):
    """Whose keys and values of the prompt each row reads, where samples share a prompt's.

    Attributes:
        sources: the row that holds the prompt for each row, int32, (R,).
        step: which token of its completion the newest one is, from 1, (1,).
    """

    sources: Tensor
    step: Tensor


def _of_prompts(shared: SharedPrompts | None, at: Tensor) -> tuple[Tensor, Tensor]:
    return shared or (at, at)  # where nothing is shared the kernels do not look


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
    *,
    shared: SharedPrompts | None = None,
    early: bool = False,
) -> None:
    """Mix the values that each row's new token may see into `mixed_R_ND`.

    Scores are multiplied by `scale`.  Rows that are done get anything finite.  For `early` see
    `early.py`.
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
        *_of_prompts(shared, at),
        *parts,
        kv_heads,
        size,
        slots,
        SCALE=scale,
        GROUP=group,
        HEADS=max(MIN_HEADS, triton.next_power_of_2(group)),
        SLOTS=BLOCK_SLOTS,
        BLOCK=block,
        SHARED=shared is not None,
        num_warps=SPLIT_WARPS,
        **launch(early=early),
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
        **launch(early=early),
    )


def attend_token(
    joint: Tensor,
    layer: LayerWeights,
    rope: tuple[Tensor, Tensor],
    keys_R_K_S_D: Tensor,
    values_R_K_S_D: Tensor,
    at: Tensor,
    padding_R: Tensor,
    is_done_R: Tensor,
    room: SplitRoom,
    mixed_R_ND: Tensor,
    recipe: Recipe,
    *,
    shared: SharedPrompts | None = None,
    early: bool = False,
) -> None:
    """What `keys.store_token` and `attend` do, in one kernel."""
    rows, kv_heads, slots, size = keys_R_K_S_D.shape
    group = recipe.heads // kv_heads
    joint, norms_heads, weights = norms_of(layer, joint, recipe)
    _attend_token[(rows * kv_heads, room.splits)](
        joint,
        *weights,
        *rope,
        keys_R_K_S_D,
        values_R_K_S_D,
        at,
        padding_R,
        is_done_R,
        *_of_prompts(shared, at),
        room.best,
        room.total,
        room.mixed,
        room.arrived,
        mixed_R_ND,
        kv_heads,
        size,
        rope[0].shape[1],
        slots,
        recipe.eps,
        SCALE=recipe.score_factor,
        HAS_NORM=norms_heads,
        ROUNDS_FIRST=recipe.rounds_first,
        GROUP=group,
        GROUP_BLOCK=triton.next_power_of_2(group),
        HEADS=max(MIN_HEADS, triton.next_power_of_2(group)),
        SLOTS=BLOCK_SLOTS,
        SPLITS=triton.next_power_of_2(room.splits),
        BLOCK=max(16, triton.next_power_of_2(size)),
        SHARED=shared is not None,
        num_warps=SPLIT_WARPS,
        **launch(early=early),
    )
