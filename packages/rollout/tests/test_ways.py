"""The ways to compute a decoding step: each against the plain one, and draws against softmax."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from small_models import PAD, prompts_of, tiny, tiny_gemma, with_lora
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_rollout.gpu import HEAD, NOISE, TILES, Ways
from xmlgrpo_rollout.weights import float32_product

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
SHAPE = {"head_dim": 16, "query_pre_attn_scalar": 16, "hidden_size": 48}
ALL = Ways(draw=HEAD, one_attention=True, early=True)
SHARED = [Ways(shared_prompt=True), replace(ALL, shared_prompt=True)]
DRAWS = 20_000


def completed(model: Any, ways: Ways, prompts: Any, sampling: Sampling, samples: int = 1) -> Any:
    from xmlgrpo_rollout.gpu.engine import GraphEngine

    torch.manual_seed(3)
    return GraphEngine(model, [10**6], PAD, ways=ways)(prompts, samples, sampling)


def tokens(completions: Any) -> list[list[int]]:
    return [completion.tokens for completion in completions]


# a norm a head and windows; biases and seven heads a key head; half of a head turned
@pytest.mark.parametrize("family", ["gemma-3", "qwen-2.5", "phi-4-without-long-texts"])
def test_every_way_gives_the_same_greedy_completions(family):
    model = tiny_gemma(**SHAPE) if family == "gemma-3" else tiny(family)
    model = with_lora(model, target_modules="all-linear").to(DEVICE)
    prompts, greedy = prompts_of([5, 20, 1]), Sampling(24, temperature=0.0)
    plain = completed(model, Ways(), prompts, greedy)
    together = completed(model, ALL, prompts, greedy)
    assert tokens(together) == tokens(plain)
    for one, other in zip(together, plain, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize(
    "ways", [Ways(one_attention=True), Ways(early=True), Ways(one_attention=True, early=True)]
)
def test_in_bfloat16_the_same_numbers_are_added_in_the_same_order(ways, monkeypatch):
    from xmlgrpo_rollout.gpu.kernels import products

    monkeypatch.setattr(products, "EARLY_TILES", {})  # another order than cuBLAS's
    # a true head: of smaller ones the norms are added up in another order
    shape = SHAPE | {"head_dim": 256, "query_pre_attn_scalar": 256}
    model = with_lora(tiny_gemma(**shape)).bfloat16().to(DEVICE)
    prompts, sampling = prompts_of([9, 30, 4]), Sampling(40, temperature=1.0)
    plain = completed(model, Ways(), prompts, sampling, samples=4)
    assert completed(model, ways, prompts, sampling, samples=4) == plain


# three prompts around and past the window of eight, of four completions each
@pytest.mark.parametrize("family", ["gemma-3", "qwen-2.5"])
@pytest.mark.parametrize("ways", SHARED, ids=["plain", "all-ways"])
def test_completions_read_their_prompt_in_the_first_of_their_rows(family, ways, monkeypatch):
    from xmlgrpo_rollout.gpu import captured_step

    model = (tiny_gemma(**SHAPE) if family == "gemma-3" else tiny(family)).to(DEVICE)
    prompts, sampling = prompts_of([5, 20, 9]), Sampling(14, temperature=1.0)
    apart = completed(model, replace(ways, shared_prompt=False), prompts, sampling, samples=4)
    begin = captured_step.Decoder.begin

    def without_the_others(decoder: Any, *arguments: Any, **options: Any) -> None:
        others = [row for row in range(decoder.rows) if row % 4]
        for cache in (*decoder.batch.keys, *decoder.batch.values):
            cache[others] = torch.nan
        begin(decoder, *arguments, **options)

    monkeypatch.setattr(captured_step.Decoder, "begin", without_the_others)
    assert completed(model, ways, prompts, sampling, samples=4) == apart


def test_rows_drawn_in_parts_are_drawn_as_at_once(monkeypatch):
    from xmlgrpo_rollout.gpu import engine

    model = tiny_gemma(**SHAPE, vocab_size=300).to(DEVICE)
    prompts, sampling = prompts_of([3 + n % 5 for n in range(6)]), Sampling(12, temperature=1.0)
    at_once = tokens(completed(model, ALL, prompts, sampling, samples=4))
    assert at_once == tokens(completed(model, ALL, prompts, sampling, samples=4))
    monkeypatch.setattr(engine, "ROWS", 8)
    assert tokens(completed(model, ALL, prompts, sampling, samples=4)) == at_once


def growing(rows: int, lines: torch.Tensor | None = None) -> Any:
    from xmlgrpo_rollout.gpu.kernels.draw import Growing

    def whole(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.int64, device=DEVICE)

    return Growing(
        seed=whole(1) + 11,
        step=whole(1).int(),
        first_row=whole(1),
        lines=torch.arange(rows, device=DEVICE) if lines is None else lines,
        stops=whole(2) + 10**6,
        pad=PAD,
        is_done=whole(rows).int(),
        tokens=whole(rows),
        written=whole(rows, 1),
        logprobs=whole(rows, 1).float(),
    )


def drawn(
    way: str,
    normed: torch.Tensor,
    head: torch.Tensor,
    temperature: float,
    lines: torch.Tensor | None = None,
) -> Any:
    """The token of each row, and the log-probability on each line."""
    from xmlgrpo_rollout.gpu.kernels import tile_draw
    from xmlgrpo_rollout.gpu.kernels.draw import DrawRoom, draw
    from xmlgrpo_rollout.gpu.kernels.products import Tiles

    rows, vocabulary = len(normed), len(head)
    found = growing(rows, lines)
    room = tile_draw.TileRoom(rows, vocabulary, torch.device(DEVICE))
    if way == HEAD:
        tiles = Tiles(rows=64, columns=256, depth=32, warps=4, stages=3)
        tile_draw.draw_of_head(normed, head, 2.0, temperature, found, room, tiles, early=False)
    elif way == NOISE:
        logits = float32_product(normed, head) / 2
        draw(logits, None, temperature, found, DrawRoom(rows, vocabulary, torch.device(DEVICE)))
    else:
        logits = float32_product(normed, head) / 2
        tile_draw.draw_of_logits(logits, temperature, found, room, early=False)
    return found.tokens, found.logprobs[:, 0]


@pytest.mark.parametrize("way", [TILES, HEAD])
def test_draws_are_as_often_as_softmax_says(way):
    torch.manual_seed(0)
    vocabulary, temperature = 700, 1.3  # five tiles and a half
    head = torch.randn(vocabulary, 40, device=DEVICE).bfloat16()
    normed = (0.5 * torch.randn(1, 40, device=DEVICE)).bfloat16()
    chosen, logprobs = drawn(way, normed.expand(DRAWS, -1).contiguous(), head, temperature)
    exact = (normed.double() @ head.double().T / 2 / temperature)[0].log_softmax(-1)
    torch.testing.assert_close(logprobs.double(), exact[chosen], atol=1e-4, rtol=1e-5)
    expected, counts = exact.exp() * DRAWS, torch.bincount(chosen, minlength=vocabulary)
    likely = expected >= 5  # chi-square needs that much
    parts = [torch.cat([x[likely], x[~likely].sum()[None]]) for x in (counts, expected)]
    chi_square = float(((parts[0] - parts[1]) ** 2 / parts[1]).sum())
    freedom = int(likely.sum())
    assert freedom > 100
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5
    # what one number picks says nothing about the other's choice, nor a row about the next
    tile, lane = chosen // 128 - (chosen // 128).double().mean(), chosen % 128 - 63.5
    for one, other in ((chosen[1:], chosen[:-1]), (tile[1:], lane[:-1])):
        pair = torch.stack([one.double(), other.double()])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 5 / DRAWS**0.5


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("number_type", [torch.float16, torch.bfloat16], ids=str)
def test_with_the_head_or_after_it_the_same_is_drawn(number_type, temperature):
    torch.manual_seed(1)
    head = torch.randn(1000, 72, device=DEVICE).to(number_type)
    normed = torch.randn(50, 72, device=DEVICE).to(number_type)
    (after, logprobs), (within, others) = (
        drawn(way, normed, head, temperature) for way in (TILES, HEAD)
    )
    assert torch.equal(after, within)
    torch.testing.assert_close(logprobs, others, atol=1e-4, rtol=1e-4)
    if temperature == 0:
        assert torch.equal(after, float32_product(normed, head).argmax(-1))


@pytest.mark.parametrize("way", [NOISE, TILES, HEAD])
def test_a_row_draws_and_writes_by_its_line_wherever_it_stands(way):
    torch.manual_seed(4)
    head = torch.randn(300, 32, device=DEVICE).bfloat16()
    normed = torch.randn(1, 32, device=DEVICE).bfloat16().expand(20, -1).contiguous()
    lines = torch.randperm(20).to(DEVICE)
    (tokens, logprobs), (moved, others) = (
        drawn(way, normed, head, 1.0, by) for by in (None, lines)
    )
    assert len(set(tokens.tolist())) > 3
    assert torch.equal(moved, tokens[lines])
    assert torch.equal(others, logprobs)


def test_numbers_that_are_not_finite_are_not_drawn_from_outside_the_vocabulary():
    head = torch.full((300, 32), float("nan"), device=DEVICE).bfloat16()
    for way in (TILES, HEAD):
        chosen, logprobs = drawn(way, torch.ones(2, 32, device=DEVICE).bfloat16(), head, 1.0)
        assert chosen.tolist() == [0, 0]
        assert logprobs.isnan().all()
