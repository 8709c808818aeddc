"""The lean loop against transformers' generate: same model, same prompts, same tokens."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model

from small_models import (
    END_OF_TURN,
    EOS,
    PAD,
    TEXT_PROJECTIONS,
    VOCABULARY,
    WINDOW,
    Tokenizer,
    disturb,
    prompts_of,
    tiny_gemma,
    tiny_multimodal_gemma,
    with_lora,
)
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.choice import choose_engine, why_not_read
from xmlgrpo_rollout.cpu import engine as static
from xmlgrpo_rollout.cpu.engine import StaticEngine
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_rollout.forward import last_logits
from xmlgrpo_rollout.generate import GenerateEngine, head_in_float32
from xmlgrpo_rollout.weights import refresh_weights


def both(model: Any, stops: Sequence[int] = (EOS, END_OF_TURN)) -> tuple[Any, Any]:
    return StaticEngine(model, stops, PAD), GenerateEngine(model, stops, PAD)


@pytest.mark.parametrize(
    ("lengths", "new_tokens"),
    [
        pytest.param([5], 4, id="one-prompt"),
        pytest.param([3, 7, 1, 5], 12, id="mixed-lengths"),
        pytest.param([6, 6], 30, id="completion-grows-past-the-window"),
        pytest.param([20, 33, 9], 24, id="prompts-past-the-window"),
        pytest.param([WINDOW - 1, WINDOW, WINDOW + 1], 9, id="prompts-around-the-window"),
    ],
)
@pytest.mark.parametrize("adapted", [False, True], ids=["bare", "lora"])
def test_greedy_completions_are_those_of_transformers(lengths, new_tokens, adapted):
    model = with_lora(tiny_gemma()) if adapted else tiny_gemma()
    lean, generate = both(model)
    sampling = Sampling(new_tokens, temperature=0.0)
    prompts = prompts_of(lengths)
    expected = generate(prompts, 1, sampling)
    assert lean(prompts, 1, sampling) == expected
    assert max(len(completion.tokens) for completion in expected) > 1


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        pytest.param("all-sliding", {"layer_types": ["sliding_attention"] * 3}, id="all-sliding"),
        pytest.param("all-full", {"layer_types": ["full_attention"] * 3}, id="all-full"),
        pytest.param("one-kv-head", {"num_key_value_heads": 1}, id="one-kv-head"),
        pytest.param("no-sharing", {"num_key_value_heads": 4}, id="a-kv-head-each"),
        pytest.param("untied", {"tie_word_embeddings": False}, id="untied-head"),
        pytest.param(
            "scaled-rope",
            {
                "rope_parameters": {
                    "full_attention": {
                        "rope_type": "linear",
                        "rope_theta": 10_000.0,
                        "factor": 8.0,
                    },
                    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                }
            },
            id="linearly-scaled-rope",
        ),
    ],
)
def test_other_shapes_of_gemma_3(name, overrides):
    lean, generate = both(tiny_gemma(**overrides))
    sampling = Sampling(16, temperature=0.0)
    prompts = prompts_of([4, 11, 2])
    assert lean(prompts, 1, sampling) == generate(prompts, 1, sampling)


@pytest.mark.parametrize("which", [EOS, END_OF_TURN], ids=["eos", "end-of-turn"])
def test_each_stop_token_ends_a_completion_and_is_its_last_token(which):
    model = tiny_gemma()
    free, _ = both(model, stops=[VOCABULARY + 1])
    sampling = Sampling(12, temperature=0.0)
    prompts = prompts_of([4, 9, 6])
    unstopped = free(prompts, 1, sampling)
    # have `which` win wherever the first prompt's third token won
    third = unstopped[0].tokens[2]
    with torch.no_grad():
        model.lm_head.weight[which] = model.lm_head.weight[third] * 1.5
    lean, generate = both(model)
    stopped = lean(prompts, 1, sampling)
    assert stopped == generate(prompts, 1, sampling)
    assert any(completion.tokens[-1] == which for completion in stopped)
    for completion in stopped:
        assert not {EOS, END_OF_TURN} & set(completion.tokens[:-1])


def test_finished_rows_are_dropped_without_a_change_to_the_others():
    # every row ends at another step, so the batch is cut down again and again
    lean, generate = both(tiny_gemma(seed=5), stops=range(7, 20))
    sampling = Sampling(40, temperature=0.0)
    prompts = prompts_of([3 + number % 9 for number in range(24)])
    completions = lean(prompts, 1, sampling)
    assert completions == generate(prompts, 1, sampling)
    assert len({len(completion.tokens) for completion in completions}) > 4


@pytest.mark.parametrize(
    ("limit", "value", "expected_chunks"),
    [
        pytest.param("ROWS", 5, 3, id="two-prompts-of-two-rows-at-a-time"),
        pytest.param("ROWS", 1, 6, id="fewer-rows-than-samples"),
        # a token takes 2 * 3 layers * 2 heads * 8 numbers * 4 bytes = 384; 19 slots a row
        pytest.param("CACHE_BYTES", 4 * 19 * 384, 3, id="memory-for-four-rows"),
        pytest.param("CACHE_BYTES", 1, 6, id="memory-for-nothing"),
    ],
)
def test_chunks_do_not_change_greedy_completions(limit, value, expected_chunks, monkeypatch):
    engine = StaticEngine(tiny_gemma(), [EOS], PAD)
    sampling = Sampling(10, temperature=0.0)
    prompts = prompts_of([9, 2, 7, 4, 4, 8])
    at_once = engine(prompts, 2, sampling)
    chunks = []
    complete = engine._complete

    def counted(*arguments):
        chunks.append(arguments)
        return complete(*arguments)

    monkeypatch.setattr(static, limit, value)
    monkeypatch.setattr(engine, "_complete", counted)
    assert engine(prompts, 2, sampling) == at_once
    assert len(chunks) == expected_chunks


def test_samples_of_a_prompt_stand_together_in_prompt_order():
    model = tiny_gemma()
    lean, _ = both(model)
    prompts = prompts_of([9, 2, 7])
    greedy = Sampling(6, temperature=0.0)
    one = lean(prompts, 1, greedy)
    assert lean(prompts, 3, greedy) == [one[0]] * 3 + [one[1]] * 3 + [one[2]] * 3


@pytest.mark.parametrize("engine", [0, 1], ids=["static", "generate"])
def test_no_prompts_no_completions(engine):
    assert both(tiny_gemma())[engine]([], 4, Sampling(5, temperature=1.0)) == []


@pytest.mark.parametrize("engine", [0, 1], ids=["static", "generate"])
def test_the_same_seed_draws_the_same_samples(engine):
    completing = both(tiny_gemma())[engine]
    prompts, sampling = prompts_of([4, 6]), Sampling(12, temperature=1.0)
    torch.manual_seed(3)
    first = completing(prompts, 4, sampling)
    second = completing(prompts, 4, sampling)
    torch.manual_seed(3)
    assert completing(prompts, 4, sampling) == first
    assert second != first


def test_refresh_takes_over_a_changed_adapter():
    model = with_lora(tiny_gemma())
    lean, generate = both(model)
    prompts, sampling = prompts_of([5, 8]), Sampling(16, temperature=0.0)
    before = lean(prompts, 1, sampling)
    disturb(model, seed=9)
    assert lean(prompts, 1, sampling) == before
    lean.refresh()
    after = lean(prompts, 1, sampling)
    assert after != before
    assert after == generate(prompts, 1, sampling)


def test_an_adapter_that_is_switched_off_is_not_merged():
    bare = tiny_gemma()
    prompts, sampling = prompts_of([5, 8]), Sampling(16, temperature=0.0)
    expected = StaticEngine(bare, [EOS], PAD)(prompts, 1, sampling)
    tuned = with_lora(bare)
    lean = StaticEngine(tuned, [EOS], PAD)
    assert lean(prompts, 1, sampling) != expected
    with tuned.disable_adapter():
        lean.refresh()
        assert lean(prompts, 1, sampling) == expected


def test_an_adapter_put_on_after_the_engine_was_made_is_refused_and_nothing_is_written():
    model = tiny_gemma()
    lean = StaticEngine(model, [EOS], PAD)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    tuned = with_lora(model, target_modules=["o_proj", "down_proj"])
    with pytest.raises(RuntimeError, match="Put the adapter on first"):
        refresh_weights(lean.weights, tuned)
    now = {name.replace(".base_layer", ""): weight for name, weight in model.state_dict().items()}
    assert all(torch.equal(now[name], weight) for name, weight in before.items())


def test_a_refresh_never_writes_into_the_trained_model():
    tuned = with_lora(tiny_gemma())
    base = {name: p.clone() for name, p in tuned.named_parameters() if "lora" not in name}
    with tuned.disable_adapter():
        lean = StaticEngine(tuned, [EOS], PAD)
    refresh_weights(lean.weights, tuned)  # the adapter is on again
    for name, weight in tuned.named_parameters():
        assert "lora" in name or torch.equal(weight, base[name]), name


def test_an_embedding_in_another_number_type():
    model = tiny_gemma().to(torch.bfloat16)
    prompts, sampling = prompts_of([5, 8]), Sampling(4, temperature=0.0)
    expected = StaticEngine(model, [EOS], PAD)(prompts, 1, sampling)
    model.model.embed_tokens.float()  # as peft leaves it beside weights in 4 bits
    assert len(StaticEngine(model, [EOS], PAD)(prompts, 1, sampling)) == len(expected)


def test_generate_leaves_the_training_mode_and_ignores_the_models_own_settings():
    model = with_lora(tiny_gemma(), lora_dropout=0.5)
    model.generation_config.top_k = 1  # would make every sample the same
    model.train()
    generate = GenerateEngine(model, [EOS, END_OF_TURN], PAD)
    torch.manual_seed(0)
    samples = generate(prompts_of([5]), 8, Sampling(6, temperature=1.0))
    assert model.training
    assert len({tuple(sample.tokens) for sample in samples}) > 1
    # without dropout greedy completions are always the same
    greedy = Sampling(6, temperature=0.0)
    assert generate(prompts_of([5]), 1, greedy) == generate(prompts_of([5]), 1, greedy)


def test_gradients_are_neither_needed_nor_touched():
    model = with_lora(tiny_gemma())
    lean, _ = both(model)
    assert not lean.weights.head.grad_fn
    assert not lean.weights.layers[0].qkv.requires_grad
    lean(prompts_of([5]), 2, Sampling(3, temperature=1.0))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("auto", "graph"), ("graph", "graph"), ("generate", "generate")],
)
def test_choice_on_a_cpu(name, expected):
    choice = choose_engine(name, tiny_gemma(), Tokenizer(), [EOS])
    assert (choice.name, choice.trains) == (expected, True)
    assert choice.reason


def test_auto_says_why_it_does_not_take_the_lean_loop():
    model = with_lora(tiny_gemma(), use_dora=True)
    choice = choose_engine("auto", model, Tokenizer(), [EOS])
    assert choice.name == "generate"
    assert "LoRA" in choice.reason


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        pytest.param("fast", tiny_gemma, "expected one of auto, generate", id="no-such-engine"),
        pytest.param("vllm", tiny_gemma, "needs a GPU", id="vllm-on-a-cpu"),
        pytest.param(
            "graph", lambda: with_lora(tiny_gemma(), use_dora=True), "plain LoRA", id="dora"
        ),
        pytest.param(
            "graph",
            lambda: with_lora(tiny_gemma(), lora_bias=True),
            "plain LoRA",
            id="lora-bias",
            # peft says that such an adapter cannot be merged, which is the point here
            marks=pytest.mark.filterwarnings("ignore:.*lora_bias"),
        ),
        pytest.param(
            "graph", lambda: tiny_gemma(final_logit_softcapping=30.0), "soft-capping", id="capped"
        ),
        pytest.param(
            "graph",
            lambda: get_peft_model(
                tiny_gemma(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
            ),
            "has a PROMPT_TUNING adapter",
            id="prompt-tuning",
        ),
        pytest.param(
            "graph",
            lambda: with_lora(tiny_gemma(), target_modules=["q_proj", "lm_head"]),
            "lm_head has an adapter",
            id="lora-on-the-head",
            # peft says that the head is tied, which is the point here
            marks=pytest.mark.filterwarnings("ignore:.*tie_word_embeddings"),
        ),
    ],
)
def test_an_engine_that_cannot_serve_is_refused_in_words(name, make, says):
    with pytest.raises(UserError, match=says):
        choose_engine(name, make(), Tokenizer(), [EOS])


def test_other_models_are_named():
    assert "Linear" in str(why_not_read(torch.nn.Linear(2, 2)))


def test_a_stop_token_is_needed():
    with pytest.raises(UserError, match="stop token"):
        choose_engine("auto", tiny_gemma(), Tokenizer(), [])


def test_the_engine_draws_second_tokens_from_the_models_own_distribution():
    """Through prefill, repetition and one decoding step: P(b | prompt, a) for the likeliest a."""
    model = tiny_gemma(vocab_size=16)
    prompt = [7, 8, 9]
    torch.manual_seed(0)
    drawn = StaticEngine(model, [99], PAD)([prompt], 4096, Sampling(2, temperature=1.0))
    pairs = torch.tensor([completion.tokens for completion in drawn])
    first = int(pairs[:, 0].bincount().argmax())
    seconds = pairs[pairs[:, 0] == first, 1]
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, first]])).logits[0, -1]
    probabilities = logits.softmax(-1).double()
    counts = torch.bincount(seconds, minlength=16).double()
    likely = probabilities * len(seconds) >= 5  # chi-square needs that much; the rest is one class
    counts = torch.cat([counts[likely], counts[~likely].sum()[None]])
    probabilities = torch.cat([probabilities[likely], probabilities[~likely].sum()[None]])
    degrees = len(counts) - 1
    expected = probabilities * len(seconds)
    assert len(seconds) > 300
    # mean and variance of chi-square are the degrees of freedom and twice that
    assert float(((counts - expected) ** 2 / expected).sum()) < degrees + 4 * (2 * degrees) ** 0.5


def test_top_1_is_greedy():
    model = tiny_gemma()
    engine = StaticEngine(model, [EOS], PAD)
    prompts = prompts_of([4, 6])
    greedy = engine(prompts, 2, Sampling(8, temperature=0.0))
    assert engine(prompts, 2, Sampling(8, temperature=1.0, top_k=1)) == greedy


def test_the_text_half_of_a_multimodal_gemma_3():
    model = tiny_multimodal_gemma()
    lean, generate = both(with_lora(model, target_modules=TEXT_PROJECTIONS))
    sampling, prompts = Sampling(12, temperature=0.0), prompts_of([4, 11, 2])
    assert lean(prompts, 1, sampling) == generate(prompts, 1, sampling)
    assert choose_engine("auto", model, Tokenizer(), [EOS]).name == "graph"


def test_the_lean_loop_says_how_many_are_finished(monkeypatch):
    """While it runs, for a bar; the ones that a batch before had finished count too."""
    engine, _ = both(tiny_gemma(), stops=range(4, VOCABULARY // 2))  # half of all draws end one
    seen = []

    def noted(*arguments):
        seen.append(engine.finished)
        return last_logits(*arguments)

    monkeypatch.setattr(static, "last_logits", noted)
    monkeypatch.setattr(static, "ROWS", 8)
    monkeypatch.setattr(static, "LOOK_EVERY", 1)
    torch.manual_seed(0)
    engine(prompts_of([5] * 16), 1, Sampling(12, temperature=1.0))
    assert seen == sorted(seen)
    assert {0, 8} < set(seen)
    assert 8 < max(seen) <= 16
    assert engine.finished == 0


def test_generate_draws_by_float32_product_and_gives_the_head_back():
    model = tiny_gemma().bfloat16()
    tokens, head = torch.tensor(prompts_of([6])), model.lm_head
    with torch.no_grad():
        rounded = model(tokens).logits
        with head_in_float32(model):
            logits = model(tokens).logits
        again = model(tokens).logits
    assert (rounded.dtype, logits.dtype) == (torch.bfloat16, torch.float32)
    assert "forward" not in vars(head)
    assert torch.equal(again, rounded)
    assert torch.equal(logits.bfloat16(), rounded)
    assert not torch.equal(logits, rounded.float())
    hooked = head.forward = head.forward  # as accelerate's hooks are put on
    with head_in_float32(model):
        assert head.forward is not hooked
    assert head.forward is hooked
