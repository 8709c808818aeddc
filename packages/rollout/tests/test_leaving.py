"""Rows that are finished leave the batch: how many stay, and whether the others notice."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from small_models import PAD, prompts_of, tiny, tiny_gemma, with_lora
from xmlgrpo_rollout import gpu
from xmlgrpo_rollout.engine import Completion, Sampling
from xmlgrpo_rollout.gpu import HEAD, TILES, Ways, rows_for

DEVICE = "cuda"
SHAPE: dict[str, Any] = {
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
}
STOPS = range(53, 61)  # of 61 tokens: rows end at once, late and never
DRAWN = Sampling(20, temperature=2.0)
NOISY = Ways(leave=True)
LATEST = Ways(draw=HEAD, one_attention=True, early=True, leave=True)


@pytest.mark.parametrize(
    ("growing", "rows", "expected"),
    [
        pytest.param(256, 256, 256, id="all-grow"),
        pytest.param(129, 256, 256, id="more-than-half"),
        pytest.param(128, 256, 128, id="half"),
        pytest.param(65, 1024, 128, id="two-halves-at-once"),
        pytest.param(64, 1024, 64, id="the-fewest"),
        pytest.param(1, 1024, 64, id="never-fewer"),
        pytest.param(1, 64, 64, id="a-batch-of-the-fewest"),
        pytest.param(3, 24, 24, id="a-smaller-batch"),
        pytest.param(150, 200, 200, id="no-size-between"),
        pytest.param(100, 200, 128, id="a-batch-that-is-no-power-of-two"),
    ],
)
def test_how_many_rows_are_computed(growing, rows, expected):
    assert rows_for(growing, rows) == expected


def rollouts(engine: Any, prompts: Any, samples: int, sampling: Sampling) -> list[list[Completion]]:
    """The same one twice: in its first a decoder lets no row leave."""
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(engine(prompts, samples, sampling))
    return found


def check_same(found: list[Completion], expected: list[Completion]) -> None:
    assert [one.tokens for one in found] == [other.tokens for other in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("family", "ways", "sampling", "int8"),
    [
        pytest.param("gemma-3", NOISY, DRAWN, False, id="noise"),
        pytest.param("gemma-3", Ways(draw=TILES, leave=True), DRAWN, False, id="tiles"),
        pytest.param("gemma-3", LATEST, DRAWN, False, id="all-ways"),
        pytest.param("qwen-2.5", LATEST, Sampling(20, 0.0), False, id="greedy"),
        pytest.param("gemma-3", NOISY, Sampling(20, 2.0, 0.95, 50), False, id="top-p-top-k"),
        pytest.param("qwen-2.5", NOISY, DRAWN, True, id="int8"),
        pytest.param("qwen-2.5", LATEST, DRAWN, False, id="biases-and-no-window"),
    ],
)
def test_the_others_go_on_as_if_nobody_had_left(family, ways, sampling, int8, monkeypatch):
    from xmlgrpo_rollout.gpu import engine as module

    monkeypatch.setattr(gpu, "LEAVE_DOWN_TO", 2)
    monkeypatch.setattr(module, "LOOK_EVERY", 3)
    model = tiny_gemma(**SHAPE) if family == "gemma-3" else tiny(family)
    model = with_lora(model, target_modules=r".*layers.*_proj").to(DEVICE)
    engine = module.GraphEngine(model, STOPS, PAD, int8=int8, ways=ways)
    # before, around and past the window of eight; each of another length
    prompts = prompts_of([5, 20, 1, 8, 13, 9, 3, 11, 6, 17, 2, 7])
    before, after = rollouts(engine, prompts, 1, sampling)
    check_same(after, before)
    lengths = {len(completion.tokens) for completion in after}
    assert len(lengths) > 3
    [kept] = engine._decoders.values()
    assert len(kept.decoder.steps) > 2
    assert engine.finished == 0


@pytest.mark.gpu
def test_a_prompt_is_read_in_a_row_that_has_not_left(monkeypatch):
    from xmlgrpo_rollout.gpu import engine as module

    monkeypatch.setattr(gpu, "LEAVE_DOWN_TO", 2)
    monkeypatch.setattr(module, "LOOK_EVERY", 3)
    model = tiny_gemma(**SHAPE).to(DEVICE)
    prompts = prompts_of([5, 20, 9])
    engine = module.GraphEngine(model, STOPS, PAD, ways=replace(LATEST, shared_prompt=True))
    before, after = rollouts(engine, prompts, 4, DRAWN)
    check_same(after, before)
    [kept] = engine._decoders.values()
    assert len(kept.decoder.steps) > 2


@pytest.mark.gpu
def test_each_part_of_a_rollout_begins_with_all_its_rows(monkeypatch):
    from xmlgrpo_rollout.gpu import engine as module

    monkeypatch.setattr(gpu, "LEAVE_DOWN_TO", 2)
    monkeypatch.setattr(module, "LOOK_EVERY", 3)
    model = tiny_gemma(**SHAPE).to(DEVICE)
    prompts, sampling = prompts_of([3 + n % 5 for n in range(5)]), Sampling(12, temperature=2.0)
    torch.manual_seed(3)
    at_once = module.GraphEngine(model, STOPS, PAD)(prompts, 2, sampling)
    monkeypatch.setattr(module, "ROWS", 8)
    engine = module.GraphEngine(model, STOPS, PAD, ways=NOISY)
    for found in rollouts(engine, prompts, 2, sampling):
        check_same(found, at_once)
    [kept] = engine._decoders.values()
    assert kept.decoder.rows == 8
    assert 2 in kept.decoder.steps  # the last part had two rows from its beginning
