"""Products of few rows with a layer's weights, for which time goes by the bytes of the weights.

Every weight is read once, by tiles that lie side by side in the depth of the product, and the
inputs, which are small, by every program again.  What cuBLAS leaves to a kernel of its own is done
in the same one or in the one after: the activation where gate and up are still in registers, the
sum of a split product in the norm that follows it.  Weights in 8 bits are widened on the way, and
their scales multiply the sums.

Axes: R rows, N columns (a weight's rows), K depth, S splits of the depth, I width of the MLP.
Sums are in float32, and rounded where transformers rounds: after each product.
"""

from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from xmlgrpo_rollout.gpu.kernels.early import launch, wait_and_release
from xmlgrpo_rollout.gpu.kernels.norms import activated_times, is_silu
from xmlgrpo_rollout.int8 import Int8Matrix, Matrix

MIN_SIDE = 16  # tl.dot takes no smaller tile


@dataclass(frozen=True, slots=True)
class Tiles:
    """How a product is shared out among programs.

    Attributes:
        rows, columns, depth: of a tile: powers of two, 16 or more.  Fewer rows than `rows` take
            a smaller tile, more take several.
        warps, stages: of a program; `stages` - 1 tiles are on their way while one is multiplied.
        splits: programs that share the depth of one tile of the result.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    splits: int = 1

    def row_tile(self, rows: int) -> int:
        """The rows of a tile for so many rows in all."""
        least: int = triton.next_power_of_2(rows)
        return min(self.rows, max(MIN_SIDE, least))

    def settings(self) -> dict[str, int]:
        """What a kernel takes of them."""
        return {
            "COLUMNS": self.columns,
            "DEPTH": self.depth,
            "num_warps": self.warps,
            "num_stages": self.stages,
        }


# Up to so many rows a product is computed here, from there on by cuBLAS.
MOST_ROWS = 64
# Compute capability 9: Hopper.  The tiles were measured there alone, and gate_up's need 144 KB of
# shared memory; compiled for an RTX 4090 it is 120 KB, of the 99 KB that such a card has.
MEASURED_ON = 9
# The best of docs/measured/kernels-h200.json, at the Gemma 3 1B shape with 64 rows on an H200, each
# with the norm after it; cuBLAS and its followers take 7.3, 13.3 and 12.9 us.
TILES = {
    "attention_out": Tiles(rows=64, columns=64, depth=64, warps=4, stages=4, splits=4),  # 6.7 us
    "gate_up": Tiles(rows=64, columns=64, depth=64, warps=4, stages=6),  # 11.0 us
    "down": Tiles(rows=64, columns=32, depth=128, warps=4, stages=4, splits=6),  # 10.9 us
    "head": Tiles(rows=64, columns=128, depth=64, warps=4, stages=4),
}
# cuBLAS is as fast, but cannot be launched early.
EARLY_TILES = {"qkv": Tiles(rows=64, columns=16, depth=128, warps=4, stages=5)}
# Of weights in 8 bits: chosen on paper, to be measured.
INT8_TILES = {
    "qkv": Tiles(rows=64, columns=32, depth=128, warps=4, stages=4),
    "attention_out": Tiles(rows=64, columns=64, depth=128, warps=4, stages=4, splits=4),
    "gate_up": Tiles(rows=64, columns=64, depth=128, warps=4, stages=4),
    "down": Tiles(rows=64, columns=64, depth=128, warps=4, stages=4, splits=7),
}
INT8_ELSEWHERE = {"depth": 64, "stages": 3}  # what fits into the shared memory of other cards
INT8_FLOAT32 = {"rows": 16}  # without tensor cores sums of more rows fill the registers


def tiles_for(
    product: str, weights: Matrix, rows: int, *, is_biased: bool = False, early: bool = False
) -> Tiles | None:
    """How to compute one of a layer's products here, or None where cuBLAS is the better choice.

    A product with a bias is cuBLAS's, which adds it in passing.  Float32 has no tensor cores that
    round as transformers does, and sizes that are no multiple of 16 cannot be loaded 16 bytes at a
    time.

    Products of weights in 8 bits are computed here whatever the rows and the GPU: cuBLAS would need
    the weights in full, more bytes than were saved.  Only an activation cannot wait for a bias.
    """
    if isinstance(weights, Int8Matrix):
        if is_biased and product == "gate_up":
            return None
        is_wide = weights.dtype.itemsize == torch.float32.itemsize
        tiles = replace(INT8_TILES[product], **(INT8_FLOAT32 if is_wide else {}))
        is_there = _is_measured_on(weights) and not is_wide
        return tiles if is_there else replace(tiles, **INT8_ELSEWHERE)
    measured = TILES | EARLY_TILES if early else TILES
    if is_biased or product not in measured:
        return None
    if rows > MOST_ROWS or weights.element_size() != 2:
        return None
    if weights.data_ptr() % 16 or any(size % 16 for size in weights.shape):
        return None
    return measured[product] if _is_measured_on(weights) else None


def _is_measured_on(weights: Matrix) -> bool:
    device = weights.device
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] == MEASURED_ON


@triton.jit
def _nothing(ROWS: tl.constexpr, COLUMNS: tl.constexpr, IS_INT8: tl.constexpr):
    """The sum that a product begins with."""
    if IS_INT8:
        total = tl.zeros([COLUMNS, ROWS], tl.float32)
    else:
        total = tl.zeros([ROWS, COLUMNS], tl.float32)
    return total


@triton.jit
def _added(total, values, weights, IS_INT8: tl.constexpr):
    """The sum with the product of one tile."""
    if IS_INT8:
        # as the left factor they need not go back into shared memory when they are widened
        wide = weights.to(values.dtype)
        total = tl.dot(wide, tl.trans(values), total, input_precision="ieee")
    else:
        total = tl.dot(values, tl.trans(weights), total, input_precision="ieee")
    return total


@triton.jit
def _scaled(total, scales, column, is_column, IS_INT8: tl.constexpr):
    """The sum, (rows, columns), of the weights that were meant."""
    if IS_INT8:
        total = tl.trans(total) * tl.load(scales + column, mask=is_column, other=0.0)[None, :]
    return total


@triton.jit(do_not_specialize=["rows"])
def _gate_up(
    normed,
    gate_up,
    scales,
    out,
    rows,
    size,
    width,
    IS_SILU: tl.constexpr,
    IS_INT8: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    EARLY: tl.constexpr,
):
    wait_and_release(EARLY)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    place = tl.arange(0, DEPTH)
    is_row, is_column = row < rows, column < width
    gate_rows = gate_up + column[:, None] * size
    up_rows = gate_rows + width * size
    gate = _nothing(ROWS, COLUMNS, IS_INT8)
    up = _nothing(ROWS, COLUMNS, IS_INT8)
    for step in range(tl.cdiv(size, DEPTH)):
        at = step * DEPTH + place
        inside = at < size
        values = tl.load(
            normed + row[:, None] * size + at[None, :],
            mask=is_row[:, None] & inside[None, :],
            other=0.0,
        )
        is_weight = is_column[:, None] & inside[None, :]
        gate_weights = tl.load(gate_rows + at[None, :], mask=is_weight, other=0.0)
        up_weights = tl.load(up_rows + at[None, :], mask=is_weight, other=0.0)
        gate = _added(gate, values, gate_weights, IS_INT8)
        up = _added(up, values, up_weights, IS_INT8)
    gate = _scaled(gate, scales, column, is_column, IS_INT8)
    up = _scaled(up, scales + width, column, is_column, IS_INT8)
    number_type = out.dtype.element_ty
    result = activated_times(gate.to(number_type).to(tl.float32), up.to(number_type), IS_SILU)
    tl.store(
        out + row[:, None] * width + column[None, :],
        result,
        mask=is_row[:, None] & is_column[None, :],
    )


@triton.jit(do_not_specialize=["rows"])
def _split_product(
    values_from,
    weights_from,
    scales,
    out,
    rows,
    columns,
    depth,
    steps,
    IS_INT8: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    EARLY: tl.constexpr,
):
    wait_and_release(EARLY)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    split = tl.program_id(2)
    place = tl.arange(0, DEPTH)
    is_row, is_column = row < rows, column < columns
    first = split * steps * DEPTH
    total = _nothing(ROWS, COLUMNS, IS_INT8)
    for step in range(steps):
        at = first + step * DEPTH + place
        inside = at < depth
        values = tl.load(
            values_from + row[:, None] * depth + at[None, :],
            mask=is_row[:, None] & inside[None, :],
            other=0.0,
        )
        weights = tl.load(
            weights_from + column[:, None] * depth + at[None, :],
            mask=is_column[:, None] & inside[None, :],
            other=0.0,
        )
        total = _added(total, values, weights, IS_INT8)
    total = _scaled(total, scales, column, is_column, IS_INT8)
    tl.store(
        out + (split * rows + row[:, None]) * columns + column[None, :],
        total.to(out.dtype.element_ty),
        mask=is_row[:, None] & is_column[None, :],
    )


def gated_product(
    normed_R_C: Tensor,
    gate_up_2I_C: Matrix,
    out_R_I: Tensor,
    tiles: Tiles,
    activation: str,
    *,
    early: bool = False,
) -> None:
    """The activated product with the upper half of the weights times that with the lower half.

    Args:
        normed_R_C: the activations.
        gate_up_2I_C: gate above up.
        out_R_I: written; in the number type of both.
        tiles: `splits` is not used: an activation needs the whole sum.
        activation: the recipe's.
        early: see `early.py`.
    """
    rows, size = normed_R_C.shape
    width = out_R_I.shape[1]
    row_tile = tiles.row_tile(rows)
    _gate_up[(triton.cdiv(rows, row_tile), triton.cdiv(width, tiles.columns))](
        normed_R_C,
        *_pointers(gate_up_2I_C),
        out_R_I,
        rows,
        size,
        width,
        IS_SILU=is_silu(activation),
        IS_INT8=isinstance(gate_up_2I_C, Int8Matrix),
        ROWS=row_tile,
        **tiles.settings(),
        **launch(early=early),
    )


def split_product(
    values_R_K: Tensor,
    weights_N_K: Matrix,
    out_S_R_N: Tensor,
    tiles: Tiles,
    *,
    early: bool = False,
) -> None:
    """Each split's part of the product `values_R_K @ weights_N_K.T`.

    Args:
        values_R_K: the activations.
        weights_N_K: the weights.
        out_S_R_N: written.  Float32 where there are splits to be summed (`add_norm` does, in
            their order, so that the sum is always the same); with one split any type.
        tiles: `splits` is S.
        early: see `early.py`.
    """
    rows, depth = values_R_K.shape
    columns = weights_N_K.shape[0]
    row_tile = tiles.row_tile(rows)
    steps = triton.cdiv(triton.cdiv(depth, tiles.depth), tiles.splits)
    grid = (triton.cdiv(rows, row_tile), triton.cdiv(columns, tiles.columns), tiles.splits)
    _split_product[grid](
        values_R_K,
        *_pointers(weights_N_K),
        out_S_R_N,
        rows,
        columns,
        depth,
        steps,
        IS_INT8=isinstance(weights_N_K, Int8Matrix),
        ROWS=row_tile,
        **tiles.settings(),
        **launch(early=early),
    )


def _pointers(weights: Matrix) -> tuple[Tensor, Tensor]:
    """The numbers and their scales; of weights in full no scale is read."""
    if isinstance(weights, Int8Matrix):
        return weights.numbers, weights.scales
    return weights, weights
