"""Weights in 8 bits: what they stand for, and the lean loop that computes with them."""

from typing import Any

import pytest
import torch

from small_models import EOS, PAD, Tokenizer, disturb, prompts_of, tiny, tiny_gemma, with_lora
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.choice import choose_engine
from xmlgrpo_rollout.cpu.engine import StaticEngine
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_rollout.generate import GenerateEngine
from xmlgrpo_rollout.int8 import Int8Matrix
from xmlgrpo_rollout.weights import LayerWeights, in_full, read_weights, refresh_weights


def matrix(exact: torch.Tensor, dtype: torch.dtype = torch.float32) -> Int8Matrix:
    numbers = torch.empty(exact.shape, dtype=torch.int8)
    made = Int8Matrix(numbers, torch.empty(len(exact)), dtype)
    made.write(exact)
    return made


def test_each_entry_is_within_half_a_step_of_its_row_and_the_largest_is_exact():
    exact = torch.randn(5, 64) * torch.tensor([1e-6, 1.0, 0.0, 300.0, 1e-30])[:, None]
    made = matrix(exact)
    steps = exact.abs().amax(dim=1, keepdim=True) / 127
    assert ((made.full() - exact).abs() <= steps * 0.5001).all()
    torch.testing.assert_close(made.full().abs().amax(dim=1), exact.abs().amax(dim=1))
    assert made.numbers.abs().amax() == 127
    assert not made.full()[2].any()


def test_a_part_is_written_into_the_whole():
    whole, new = matrix(torch.randn(6, 16)), torch.randn(4, 16)
    first, second = whole.full()[:2], matrix(new).full()
    whole.split([2, 4])[1].write(new)
    assert torch.equal(whole.full(), torch.cat([first, second]))


def test_a_small_update_arrives_in_the_mean():
    # beside weights on the grid of bfloat16 it is lost there (docs/measured/README.md)
    torch.manual_seed(0)
    weight = (torch.randn(256, 512) * 0.02).bfloat16().float()
    update = torch.randn(256, 512) * 1e-5
    arrived = {
        "int8": matrix(weight + update).full() - matrix(weight).full(),
        "bfloat16": (weight + update).bfloat16().float() - weight,
    }
    share = {way: float((c * update).sum() / update.square().sum()) for way, c in arrived.items()}
    assert share["int8"] == pytest.approx(1, abs=0.1)
    assert share["bfloat16"] < 0.5


def in_8_bits(model: Any) -> Any:
    """The model with its adapter merged, each projection's weight what its 8 bits stand for."""
    merged = model.merge_and_unload()
    with torch.no_grad():
        for name, module in merged.named_modules():
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                module.weight.copy_(matrix(module.weight).full())
    return merged


@pytest.mark.parametrize("family", ["gemma-3", "qwen-2.5", "phi-3", "llama-with-biases"])
def test_completions_are_those_of_the_quantized_model(family):
    def adapted() -> Any:
        model = tiny_gemma(tie_word_embeddings=False) if family == "gemma-3" else tiny(family)
        return with_lora(model, target_modules=r".*layers.*_proj")

    engine = StaticEngine(adapted(), [EOS], PAD, int8=True)
    model = in_8_bits(adapted())
    prompts, sampling = prompts_of([3, 11, 20]), Sampling(12, temperature=0.0)
    found = engine(prompts, 1, sampling)
    expected = GenerateEngine(model, [EOS], PAD)(prompts, 1, sampling)
    assert [c.tokens for c in found] == [c.tokens for c in expected]
    plain = StaticEngine(adapted(), [EOS], PAD)(prompts, 1, sampling)
    assert all(completion.logprobs is None for completion in plain)
    for prompt, completion in zip(prompts, found, strict=True):
        text = torch.tensor([[*prompt, *completion.tokens]])
        with torch.no_grad():
            logits = model(text).logits[0, len(prompt) - 1 : -1]
        logprobs = logits.log_softmax(-1).gather(1, text[0, len(prompt) :, None])[:, 0]
        assert completion.logprobs == pytest.approx(logprobs.tolist(), abs=1e-4)


def test_logprobs_are_at_the_sampling_temperature():
    model = with_lora(tiny_gemma(tie_word_embeddings=False))
    engine = StaticEngine(model, [10**6], PAD, int8=True)
    cold, hot = (
        engine(prompts_of([5]), 1, Sampling(1, temperature=t, top_k=1))[0] for t in (0.5, 2.0)
    )
    assert cold.tokens == hot.tokens  # the most probable one
    assert (cold.logprobs or []) > (hot.logprobs or [])


@torch.no_grad()
def test_a_refresh_writes_what_a_new_reading_gives_where_the_old_one_was():
    model = with_lora(tiny_gemma(), target_modules=["q_proj", "down_proj"])
    kept = read_weights(model, int8=True)
    places, before = places_of(kept), in_full(kept).layers[0]
    disturb(model, seed=9)
    refresh_weights(kept, model)
    assert places_of(kept) == places
    found, fresh = in_full(kept).layers, in_full(read_weights(model, int8=True)).layers
    assert all(map(same, found, fresh))
    assert not same(found[0], before)


def places_of(weights: Any) -> list[int]:
    return [layer.qkv.numbers.data_ptr() for layer in weights.layers]


def same(one: LayerWeights, other: LayerWeights) -> bool:
    fields = ("qkv", "attention_out", "gate_up", "down")
    return all(torch.equal(getattr(one, field), getattr(other, field)) for field in fields)


def test_training_draws_in_8_bits_and_all_else_is_answered_by_what_is_kept():
    model = with_lora(tiny_gemma(tie_word_embeddings=False))
    choice = choose_engine("auto", model, Tokenizer(), [EOS], int8=True)
    assert (choice.name, choice.trains, choice.rounds) == ("graph", True, True)
    assert "int8" in choice.reason
    prompts, sampling = prompts_of([6]), Sampling(4, temperature=0.0)
    assert choice.engine(prompts, 1, sampling)[0].logprobs is None
    assert choice.drawing(prompts, 1, sampling)[0].logprobs is not None
    plain = choose_engine("auto", model, Tokenizer(), [EOS])
    assert plain.drawing is plain.engine
    assert not plain.rounds


@pytest.mark.parametrize(
    ("name", "family", "says"),
    [
        pytest.param("generate", "qwen-3", "not taken: rollout is 'generate'", id="generate"),
        pytest.param("auto", "gemma-2", "graph, which is not taken: it has no recipe", id="auto"),
    ],
)
def test_other_engines_have_no_8_bits(name, family, says):
    with pytest.raises(UserError, match=says):
        choose_engine(name, tiny(family), Tokenizer(), [EOS], int8=True)
