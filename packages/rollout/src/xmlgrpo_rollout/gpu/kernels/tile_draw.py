"""The next token of each row, drawn in two steps: a tile of the vocabulary, then a token of it.

Of a row's logits each tile leaves its largest and its sum of exponentials.  One uniform number
picks the tile by the inverse of its cumulative distribution, a second one the token in it, so that
a row needs two random numbers, not one for each piece of the vocabulary (`draw.py` needs those).
Where the head's product is computed here too (FlashSampling, arXiv 2603.15854), logits are never
written: the one tile that was picked is computed again.

The numbers are Philox's, keyed by a seed a rollout and the step, and numbered by row: what is drawn
does not depend on how many rows are computed together.

Axes: R rows, C hidden size, V vocabulary, J tiles of it.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from xmlgrpo_rollout.gpu.kernels.draw import Growing, write_down
from xmlgrpo_rollout.gpu.kernels.early import launch, wait_and_release
from xmlgrpo_rollout.gpu.kernels.products import Tiles

TILE = 128  # a part of the draws' numbering: another value draws other tokens
TILES_A_PROGRAM = 32


@triton.jit
def _leave_sums(scaled, axis: tl.constexpr):
    """Each tile's largest number, and the sum of exponentials below it."""
    best = tl.maximum(tl.max(scaled, axis=axis), -1e30)  # finite, also where all is forbidden
    return best, tl.sum(tl.exp(scaled - tl.expand_dims(best, axis)), axis=axis)


@triton.jit
def _sum_tiles(
    logits,
    tile_best,
    tile_total,
    factor,
    vocabulary,
    tiles,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    EARLY: tl.constexpr,
):
    wait_and_release(EARLY)
    row = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1) * TILES + tl.arange(0, TILES)
    token = tile[:, None] * TILE + tl.arange(0, TILE)[None, :]
    where = logits + row * vocabulary + token
    scaled = tl.load(where, mask=token < vocabulary, other=-float("inf")).to(tl.float32) * factor
    best, total = _leave_sums(scaled, 1)
    tl.store(tile_best + row * tiles + tile, best, mask=tile < tiles)
    tl.store(tile_total + row * tiles + tile, total, mask=tile < tiles)


@triton.jit(do_not_specialize=["rows"])
def _sum_head_tiles(
    normed,
    head,
    tile_best,
    tile_total,
    factor,
    divisor,
    rows,
    size,
    vocabulary,
    tiles,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    EARLY: tl.constexpr,
):
    wait_and_release(EARLY)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    place = tl.arange(0, DEPTH)
    is_row, is_token = row < rows, token < vocabulary
    weights_from = head + token.to(tl.int64)[:, None] * size
    logits = tl.zeros([ROWS, COLUMNS], tl.float32)
    for step in range(tl.cdiv(size, DEPTH)):
        at = step * DEPTH + place
        inside = at < size
        values = tl.load(
            normed + row[:, None] * size + at[None, :],
            mask=is_row[:, None] & inside[None, :],
            other=0.0,
        ).to(head.dtype.element_ty)
        weights = tl.load(
            weights_from + at[None, :], mask=is_token[:, None] & inside[None, :], other=0.0
        )
        logits = tl.dot(values, tl.trans(weights), logits, input_precision="ieee")
    scaled = tl.where(is_token[None, :], logits / divisor * factor, -float("inf"))
    best, total = _leave_sums(tl.reshape(scaled, [ROWS, COLUMNS // TILE, TILE]), 2)
    tile = tl.program_id(1) * (COLUMNS // TILE) + tl.arange(0, COLUMNS // TILE)
    out = row[:, None] * tiles + tile[None, :]
    is_tile = is_row[:, None] & (tile < tiles)[None, :]
    tl.store(tile_best + out, best, mask=is_tile)
    tl.store(tile_total + out, total, mask=is_tile)


@triton.jit
def _uniform(high, low):
    """From two words of 32 bits the 53 that a float64 from 0 to 1 holds."""
    high = (high >> 5).to(tl.float64) * 67108864.0
    return (high + (low >> 6).to(tl.float64)) * 1.1102230246251565e-16


@triton.jit
def _picked(shares, place, uniform):
    """The place at which the cumulative sum of `shares` passes `uniform` of the whole."""
    passed = tl.cumsum(shares.to(tl.float64), axis=0)
    is_past = (passed > uniform * tl.max(passed, axis=0)) & (shares > 0)
    return _first(is_past, place)


@triton.jit
def _first(is_it, place):
    """The first place of those; 0 where there is none, as among numbers that are not finite."""
    found = tl.min(tl.where(is_it, place, 2**30), axis=0)
    return tl.where(found == 2**30, 0, found)


@triton.jit
def _pick_token(
    logits,
    normed,
    head,
    tile_best,
    tile_total,
    seed,
    first_row,
    stops,
    step,
    lines,
    is_done,
    tokens,
    written,
    logprobs,
    factor,
    divisor,
    size,
    vocabulary,
    tiles,
    stop_count,
    limit,
    pad,
    GREEDY: tl.constexpr,
    COMPUTED: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    DEPTH: tl.constexpr,
    STOPS: tl.constexpr,
    EARLY: tl.constexpr,
):
    wait_and_release(EARLY)
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, TILES)
    best = tl.load(tile_best + row * tiles + place, mask=place < tiles, other=-float("inf"))
    total = tl.load(tile_total + row * tiles + place, mask=place < tiles, other=0.0)
    top = tl.max(best, axis=0)
    shares = total * tl.exp(best - top)
    normaliser = top + tl.log(tl.sum(shares, axis=0))
    key = tl.load(seed) + tl.load(step)
    number = (tl.load(first_row) + tl.load(lines + row)).to(tl.uint32)
    word_0, word_1, word_2, word_3 = tl.randint4x(key, number)
    if GREEDY:
        tile = _first(best == top, place)
    else:
        tile = _picked(shares, place, _uniform(word_0, word_1))

    lane = tl.arange(0, TILE)
    token = tile.to(tl.int64) * TILE + lane
    is_token = token < vocabulary
    if COMPUTED:
        products = tl.zeros([TILE, DEPTH], tl.float32)
        for part in tl.range(0, tl.cdiv(size, DEPTH), num_stages=4):
            at = part * DEPTH + tl.arange(0, DEPTH)
            inside = at < size
            values = tl.load(normed + row * size + at, mask=inside, other=0.0)
            values = values.to(head.dtype.element_ty).to(tl.float32)
            where = head + token[:, None] * size + at[None, :]
            weights = tl.load(where, mask=is_token[:, None] & inside[None, :], other=0.0)
            products += weights.to(tl.float32) * values[None, :]
        of_tile = tl.sum(products, axis=1) / divisor
        of_tile = tl.where(is_token, of_tile, -float("inf"))
    else:
        where = logits + row * vocabulary + token
        of_tile = tl.load(where, mask=is_token, other=-float("inf")).to(tl.float32)
    scaled = of_tile * factor
    highest = tl.max(scaled, axis=0)
    if GREEDY:
        chosen = _first(scaled == highest, lane)
    else:
        chosen = _picked(tl.exp(scaled - highest), lane, _uniform(word_2, word_3))
    logit = tl.sum(tl.where(lane == chosen, scaled, 0.0), axis=0)
    write_down(
        tile.to(tl.int64) * TILE + chosen,
        logit - normaliser,
        row,
        stops,
        step,
        lines,
        is_done,
        tokens,
        written,
        logprobs,
        stop_count,
        limit,
        pad,
        STOPS,
    )


class TileRoom:
    """Where the tiles of the vocabulary leave their sums.

    Args:
        rows, vocabulary: of the logits.
    """

    def __init__(self, rows: int, vocabulary: int, device: torch.device) -> None:
        self.tiles = triton.cdiv(vocabulary, TILE)
        self.best_R_J = torch.empty(rows, self.tiles, dtype=torch.float32, device=device)
        self.total_R_J = torch.empty_like(self.best_R_J)


def draw_of_logits(
    logits_R_V: Tensor, temperature: float, growing: Growing, room: TileRoom, *, early: bool
) -> None:
    """Draw a token a row and write it down with its log-probability.

    Args:
        logits_R_V: as the model gave them.
        temperature: 0 takes the most probable token.
        early: see `early.py`.
    """
    rows, vocabulary = logits_R_V.shape
    _sum_tiles[(rows, triton.cdiv(room.tiles, TILES_A_PROGRAM))](
        logits_R_V,
        room.best_R_J,
        room.total_R_J,
        _factor(temperature),
        vocabulary,
        room.tiles,
        TILE=TILE,
        TILES=TILES_A_PROGRAM,
        num_warps=8,
        **launch(early=early),
    )
    _pick(logits_R_V, None, temperature, 1.0, growing, room, early=early)


def draw_of_head(
    normed_R_C: Tensor,
    head_V_C: Tensor,
    divisor: float,
    temperature: float,
    growing: Growing,
    room: TileRoom,
    tiles: Tiles,
    *,
    early: bool,
) -> None:
    """The same from what the head would make the logits of, which are divided by `divisor`.

    Args:
        tiles: of the product with the head; `columns` is a multiple of `TILE`.
    """
    rows, size = normed_R_C.shape
    vocabulary = head_V_C.shape[0]
    row_tile = tiles.row_tile(rows)
    _sum_head_tiles[(triton.cdiv(rows, row_tile), triton.cdiv(vocabulary, tiles.columns))](
        normed_R_C,
        head_V_C,
        room.best_R_J,
        room.total_R_J,
        _factor(temperature),
        divisor,
        rows,
        size,
        vocabulary,
        room.tiles,
        TILE=TILE,
        ROWS=row_tile,
        **tiles.settings(),
        **launch(early=early),
    )
    _pick(normed_R_C, head_V_C, temperature, divisor, growing, room, early=early)


def _pick(
    source: Tensor,
    head_V_C: Tensor | None,
    temperature: float,
    divisor: float,
    growing: Growing,
    room: TileRoom,
    *,
    early: bool,
) -> None:
    """Of logits, or of activations where there is a head to make them with."""
    rows, size = source.shape
    _pick_token[(rows,)](
        source,
        source,
        source if head_V_C is None else head_V_C,
        room.best_R_J,
        room.total_R_J,
        growing.seed,
        growing.first_row,
        *growing.places,
        _factor(temperature),
        divisor,
        size,
        size if head_V_C is None else head_V_C.shape[0],
        room.tiles,
        *growing.sizes,
        GREEDY=temperature == 0,
        COMPUTED=head_V_C is not None,
        TILE=TILE,
        TILES=triton.next_power_of_2(room.tiles),
        DEPTH=64,
        STOPS=triton.next_power_of_2(len(growing.stops)),
        num_warps=8,
        **launch(early=early),
    )


def _factor(temperature: float) -> float:
    return 1.0 if temperature == 0 else 1 / temperature
