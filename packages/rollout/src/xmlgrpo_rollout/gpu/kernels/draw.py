"""The next token of each row, drawn from its logits, in two passes over a vocabulary.

A draw from softmax(z) is argmax(z + g), with g standard Gumbel noise (Gumbel 1954; Maddison et al.
2014, arXiv 1411.0030, section 2), so no probability is ever written to memory: blocks of the
vocabulary are read once, each leaves its best candidate and its part of the normaliser.

The noise is Philox, keyed by a seed a rollout and the step: what is drawn does not depend on how
many rows are computed together.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096  # a part of the noise's numbering: another value draws other tokens
# The least of 2**31 equally likely values of the generator, halved: -log(1 - u) is exponential, and
# u = 0 would be chosen whatever its logit.
SMALLEST = 2.0**-32


@triton.jit
def _blocks(
    logits,
    choice,
    seed,
    step,
    first_row,
    lines,
    block_best,
    block_token,
    block_max,
    block_total,
    factor,
    vocabulary,
    GREEDY: tl.constexpr,
    FILTERED: tl.constexpr,
    SMALLEST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    block, blocks = tl.program_id(1), tl.num_programs(1)
    lane = tl.arange(0, BLOCK // 4)
    # rows x vocabulary / 4 places; with the steps they would be too many for 32 bits, so the step
    # is in the seed
    number = tl.load(first_row) + tl.load(lines + row)
    place = (number * blocks + block) * (BLOCK // 4) + lane
    key = tl.load(seed) + tl.load(step)
    # one call of the generator gives four numbers
    uniform_0, uniform_1, uniform_2, uniform_3 = tl.rand4x(key, place.to(tl.uint32))
    # each lane keeps its own best and sum, so that the lanes are put together only once
    best = tl.full([BLOCK // 4], -float("inf"), tl.float32)
    token = tl.zeros([BLOCK // 4], tl.int32)
    highest = tl.full([BLOCK // 4], -1e30, tl.float32)
    total = tl.zeros([BLOCK // 4], tl.float32)
    for part in tl.static_range(4):
        first = block * BLOCK + part * (BLOCK // 4)
        inside = first + lane < vocabulary
        where = row * vocabulary + first + lane
        scaled = tl.load(logits + where, mask=inside, other=-float("inf"))
        scaled = scaled.to(tl.float32) * factor
        higher = tl.maximum(highest, scaled)
        total = total * tl.exp(highest - higher) + tl.exp(scaled - higher)
        highest = higher
        candidates = scaled
        if FILTERED:
            candidates = tl.load(choice + where, mask=inside, other=-float("inf"))
        if not GREEDY:
            if part == 0:
                uniform = uniform_0
            elif part == 1:
                uniform = uniform_1
            elif part == 2:
                uniform = uniform_2
            else:
                uniform = uniform_3
            uniform = tl.maximum(uniform, SMALLEST)
            # -log(1 - u), by its series where 1 - u would be rounded
            series = uniform * (1 + uniform * (0.5 + uniform * (1.0 / 3)))
            exponential = tl.where(uniform < 0.01, series, -tl.log(1 - uniform))
            candidates = candidates - tl.log(exponential)
        token = tl.where(candidates > best, first + lane, token)
        best = tl.maximum(best, candidates)
    out = row * blocks + block
    top = tl.max(best, axis=0)
    # the first of equals, as torch's argmax
    tl.store(block_token + out, tl.min(tl.where(best == top, token, 2**31 - 1), axis=0))
    tl.store(block_best + out, top)
    top = tl.max(highest, axis=0)
    tl.store(block_max + out, top)
    tl.store(block_total + out, tl.sum(total * tl.exp(highest - top), axis=0))


@triton.jit
def write_down(
    token,
    logprob,
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
    STOPS: tl.constexpr,
):
    """Note the token that a row has got, or padding where it is done."""
    stop = tl.arange(0, STOPS)
    ends = tl.load(stops + stop, mask=stop < stop_count, other=-1)
    stopped = tl.sum((ends == token).to(tl.int32), axis=0) > 0
    done = tl.load(is_done + row) != 0
    token = tl.where(done, pad, token)
    out = tl.load(lines + row) * limit + tl.load(step)
    tl.store(tokens + row, token)
    tl.store(written + out, token)
    tl.store(logprobs + out, tl.where(done, 0.0, logprob))
    tl.store(is_done + row, (done | stopped).to(tl.int32))


@triton.jit
def _finish(
    logits,
    block_best,
    block_token,
    block_max,
    block_total,
    stops,
    step,
    lines,
    is_done,
    tokens,
    written,
    logprobs,
    factor,
    vocabulary,
    blocks,
    stop_count,
    limit,
    pad,
    BLOCKS: tl.constexpr,
    STOPS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    block = tl.arange(0, BLOCKS)
    is_block = block < blocks
    parts = row * blocks + block
    best = tl.load(block_best + parts, mask=is_block, other=float("-inf"))
    _, winner = tl.max(best, axis=0, return_indices=True)
    token = tl.load(block_token + row * blocks + winner).to(tl.int64)
    highest = tl.load(block_max + parts, mask=is_block, other=float("-inf"))
    top = tl.max(highest, axis=0)
    total = tl.load(block_total + parts, mask=is_block, other=0.0)
    normaliser = top + tl.log(tl.sum(total * tl.exp(highest - top), axis=0))
    logit = tl.load(logits + row * vocabulary + token).to(tl.float32) * factor
    write_down(
        token,
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


class DrawRoom:
    """Where the blocks of the vocabulary leave their parts.

    Args:
        rows, vocabulary: of the logits.
    """

    def __init__(self, rows: int, vocabulary: int, device: torch.device) -> None:
        self.blocks = triton.cdiv(vocabulary, BLOCK)
        parts = (rows, self.blocks)
        self.best = torch.empty(parts, dtype=torch.float32, device=device)
        self.token = torch.empty(parts, dtype=torch.int32, device=device)
        self.highest = torch.empty(parts, dtype=torch.float32, device=device)
        self.total = torch.empty(parts, dtype=torch.float32, device=device)


@dataclass(frozen=True, slots=True)
class Growing:
    """The completions that a draw adds a token to.

    Axes: R rows, T tokens of a completion at most, E stop tokens.

    Attributes:
        seed, step, first_row: one number each, in memory: of the rollout, of the completion's
            token, of the first line among the rollout's rows.
        lines: each row's own, in `written` and `logprobs`, (R,): it keeps it where it moves.
        stops: the tokens that end a completion, (E,).
        pad: what a row that is done gets.
        is_done: 0 or 1, int32, (R,); updated.
        tokens: the tokens drawn last, (R,).
        written, logprobs: completions so far, (lines, T); column `step` is written.  The
            log-probability is that at the temperature (1 when greedy), whatever is forbidden.
    """

    seed: Tensor
    step: Tensor
    first_row: Tensor
    lines: Tensor
    stops: Tensor
    pad: int
    is_done: Tensor
    tokens: Tensor
    written: Tensor
    logprobs: Tensor

    @property
    def places(self) -> tuple[Tensor, ...]:
        """What `write_down` reads and writes."""
        return (
            self.stops,
            self.step,
            self.lines,
            self.is_done,
            self.tokens,
            self.written,
            self.logprobs,
        )

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The numbers that `write_down` takes."""
        return len(self.stops), self.written.shape[1], self.pad


def draw(
    logits_R_V: Tensor,
    choice_R_V: Tensor | None,
    temperature: float,
    growing: Growing,
    room: DrawRoom,
) -> None:
    """Draw a token a row and write it down with its log-probability.

    Args:
        logits_R_V: as the model gave them.
        choice_R_V: float32 logits at the temperature, minus infinity where top-k, top-p or min-p
            forbid a token; None where nothing is forbidden.
        temperature: 0 takes the most probable token.
    """
    rows, vocabulary = logits_R_V.shape
    greedy = temperature == 0
    factor = 1.0 if greedy else 1 / temperature
    parts = (room.best, room.token, room.highest, room.total)
    _blocks[(rows, room.blocks)](
        logits_R_V,
        logits_R_V if choice_R_V is None else choice_R_V,
        growing.seed,
        growing.step,
        growing.first_row,
        growing.lines,
        *parts,
        factor,
        vocabulary,
        GREEDY=greedy,
        FILTERED=choice_R_V is not None,
        SMALLEST=SMALLEST,
        BLOCK=BLOCK,
        num_warps=8,
    )
    _finish[(rows,)](
        logits_R_V,
        *parts,
        *growing.places,
        factor,
        vocabulary,
        room.blocks,
        *growing.sizes,
        BLOCKS=triton.next_power_of_2(room.blocks),
        STOPS=triton.next_power_of_2(len(growing.stops)),
        num_warps=1,
    )
