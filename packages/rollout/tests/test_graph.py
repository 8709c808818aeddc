"""The engine of the GPU against transformers' generate: same model, same prompts, same tokens."""

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from small_models import (
    END_OF_TURN,
    EOS,
    FAMILIES,
    PAD,
    WINDOW,
    disturb,
    prompts_of,
    tiny,
    tiny_gemma,
    with_lora,
)
from xmlgrpo_rollout.choice import choose_engine
from xmlgrpo_rollout.cpu.engine import StaticEngine
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_rollout.generate import GenerateEngine
from xmlgrpo_rollout.self_check import why_not_alike
from xmlgrpo_rollout.weights import read_weights

pytestmark = pytest.mark.gpu


def both(model: Any, stops: Any = (EOS, END_OF_TURN)) -> tuple[Any, Any]:
    from xmlgrpo_rollout.gpu.engine import GraphEngine

    model.to("cuda")
    return GraphEngine(model, stops, PAD), GenerateEngine(model, stops, PAD)


def tokens(completions: Any) -> list[list[int]]:
    return [completion.tokens for completion in completions]


# head_dim 16 and more: what tensor cores take
SHAPE = {"head_dim": 16, "query_pre_attn_scalar": 16, "hidden_size": 48}


@pytest.mark.parametrize(
    ("lengths", "new_tokens"),
    [
        pytest.param([5], 4, id="one-prompt"),
        pytest.param([3, 7, 1, 5], 40, id="mixed-lengths"),
        pytest.param([6, 6], 300, id="completion-grows-far-past-the-window"),
        pytest.param([20, 33, 9], 24, id="prompts-past-the-window"),
        pytest.param([WINDOW - 1, WINDOW, WINDOW + 1], 9, id="prompts-around-the-window"),
    ],
)
@pytest.mark.parametrize("adapted", [False, True], ids=["bare", "lora"])
def test_greedy_completions_are_those_of_transformers(lengths, new_tokens, adapted):
    model = tiny_gemma(max_position_embeddings=512, **SHAPE)
    graph, generate = both(with_lora(model) if adapted else model)
    sampling = Sampling(new_tokens, temperature=0.0)
    prompts = prompts_of(lengths)
    assert tokens(graph(prompts, 1, sampling)) == tokens(generate(prompts, 1, sampling))


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({"layer_types": ["sliding_attention"] * 3}, id="all-sliding"),
        pytest.param({"layer_types": ["full_attention"] * 3}, id="all-full"),
        pytest.param({"num_key_value_heads": 1}, id="one-kv-head"),
        pytest.param({"num_key_value_heads": 4}, id="a-kv-head-each"),
        pytest.param({"tie_word_embeddings": False}, id="untied-head"),
        pytest.param({"head_dim": 24, "query_pre_attn_scalar": 24}, id="head-not-a-power-of-two"),
        pytest.param({"vocab_size": 9001}, id="vocabulary-of-three-blocks"),
    ],
)
def test_other_shapes_of_gemma_3(overrides):
    graph, generate = both(tiny_gemma(**(SHAPE | overrides)))
    sampling = Sampling(16, temperature=0.0)
    prompts = prompts_of([4, 11, 2])
    assert tokens(graph(prompts, 1, sampling)) == tokens(generate(prompts, 1, sampling))


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families(family):
    graph, generate = both(with_lora(tiny(family), target_modules="all-linear"))
    sampling = Sampling(4 * WINDOW, temperature=0.0)
    prompts = prompts_of([*range(1, 13), 3 * WINDOW, 33])
    assert tokens(graph(prompts, 1, sampling)) == tokens(generate(prompts, 1, sampling))


def test_many_rows_in_parts_are_the_same_as_at_once(monkeypatch):
    from xmlgrpo_rollout.gpu import engine as module

    graph, generate = both(tiny_gemma(**SHAPE))
    prompts, greedy = prompts_of([3 + n % 9 for n in range(50)]), Sampling(20, temperature=0.0)
    expected = tokens(generate(prompts, 1, greedy))
    assert tokens(graph(prompts, 1, greedy)) == expected
    sampled = Sampling(20, temperature=1.0)
    torch.manual_seed(5)
    at_once = tokens(graph(prompts, 4, sampled))
    monkeypatch.setattr(module, "ROWS", 16)
    monkeypatch.setattr(module, "PREFILL_TOKENS", 20)
    parts, _ = both(graph.model)
    assert tokens(parts(prompts, 1, greedy)) == expected
    torch.manual_seed(5)
    assert tokens(parts(prompts, 4, sampled)) == at_once  # noise belongs to a row, not to a batch


@pytest.mark.parametrize("which", [EOS, END_OF_TURN], ids=["eos", "end-of-turn"])
def test_each_stop_token_ends_a_completion_and_is_its_last_token(which):
    model = tiny_gemma(**SHAPE)
    free, _ = both(model, stops=[10**6])
    sampling, prompts = Sampling(48, temperature=0.0), prompts_of([4, 9, 6])
    third = free(prompts, 1, sampling)[0].tokens[2]
    with torch.no_grad():
        model.lm_head.weight[which] = model.lm_head.weight[third] * 1.5
    graph, generate = both(model)
    stopped = tokens(graph(prompts, 1, sampling))
    assert stopped == tokens(generate(prompts, 1, sampling))
    assert any(completion[-1] == which for completion in stopped)
    # a later call starts afresh
    assert tokens(graph(prompts[:1], 1, sampling)) == stopped[:1]


def test_refresh_takes_over_a_changed_adapter_in_the_captured_graph():
    # an untied head and no embedding worth the name: what is written hangs on the layers
    model = tiny_gemma(tie_word_embeddings=False, **SHAPE)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(0.01)
    model = with_lora(model)
    graph, generate = both(model)
    prompts, sampling = prompts_of([5, 8, 30]), Sampling(16, temperature=0.0)
    before = tokens(graph(prompts, 1, sampling))
    disturb(model, seed=9)
    assert tokens(graph(prompts, 1, sampling)) == before
    graph.refresh()
    after = tokens(graph(prompts, 1, sampling))
    assert after != before
    assert after == tokens(generate(prompts, 1, sampling))


def test_fewer_and_shorter_prompts_than_before_find_their_places():
    graph, generate = both(tiny_gemma(**SHAPE))
    sampling = Sampling(8, temperature=0.0)
    graph(prompts_of([40, 2, 2, 2]), 1, sampling)
    prompts = prompts_of([5])
    assert tokens(graph(prompts, 1, sampling)) == tokens(generate(prompts, 1, sampling))
    [kept] = graph._decoders.values()
    assert int((kept.decoder.batch.at - kept.decoder.batch.padding).min()) >= 0


def test_greedy_completions_leave_the_generator_alone():
    graph, _ = both(tiny_gemma(**SHAPE))
    prompts = prompts_of([4, 6])  # which seeds the generator
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    graph(prompts, 1, Sampling(5, temperature=0.0))
    assert torch.equal(torch.rand(3), expected)


def test_logprobs_are_those_of_the_policy():
    model = with_lora(tiny_gemma(**SHAPE))
    graph, _ = both(model)
    prompt, temperature = prompts_of([9])[0], 0.7
    completions = graph([prompt], 3, Sampling(12, temperature=temperature))
    for completion in completions:
        text = torch.tensor([[*prompt, *completion.tokens]], device="cuda")
        with torch.no_grad():
            logits = model(text).logits[0, len(prompt) - 1 : -1].float() / temperature
        expected = logits.log_softmax(-1).gather(1, text[0, len(prompt) :, None])[:, 0]
        torch.testing.assert_close(
            torch.tensor(completion.logprobs), expected.cpu(), atol=2e-5, rtol=1e-4
        )


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({}, id="plain"),
        pytest.param({"top_k": 5}, id="top-k"),
        pytest.param({"top_p": 0.6}, id="top-p"),
        pytest.param({"min_p": 0.2}, id="min-p"),
    ],
)
def test_tokens_are_drawn_from_the_models_own_distribution(limits):
    from xmlgrpo_rollout.engine import filtered

    model = tiny_gemma(vocab_size=24, **SHAPE)
    graph, _ = both(model, stops=[10**6])
    prompt, sampling = [7, 8, 9], Sampling(2, temperature=1.3, **limits)
    torch.manual_seed(0)
    pairs = torch.tensor(tokens(graph([prompt], 1024, sampling)))
    for _ in range(7):
        pairs = torch.cat([pairs, torch.tensor(tokens(graph([prompt], 1024, sampling)))])
    first = int(pairs[:, 0].bincount().argmax())
    for taken, text in ((pairs[:, 0], prompt), (pairs[pairs[:, 0] == first, 1], [*prompt, first])):
        with torch.no_grad():
            logits = model(torch.tensor([text], device="cuda")).logits[0, -1].float()
        probabilities = filtered(logits[None], sampling)[0].softmax(-1).double().cpu()
        counts = torch.bincount(taken, minlength=24).double()
        assert counts[probabilities == 0].sum() == 0
        likely = probabilities * len(taken) >= 5  # chi-square needs that much
        counts = torch.cat([counts[likely], counts[~likely].sum()[None]])
        probabilities = torch.cat([probabilities[likely], probabilities[~likely].sum()[None]])
        expected = (probabilities * len(taken)).clamp(min=1e-9)
        degrees = len(counts) - 1
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        assert chi_square < degrees + 5 * (2 * degrees) ** 0.5 + 5


@pytest.mark.parametrize("family", ["gemma-3", *FAMILIES])
def test_bfloat16_is_as_near_to_the_policy_as_its_own_rounding(family):
    model = tiny_gemma(**SHAPE) if family == "gemma-3" else tiny(family)
    model = with_lora(model, target_modules="all-linear").to(torch.bfloat16)
    graph, _ = both(model)
    exact = deepcopy(model).float()
    prompts = prompts_of([9, 30, 4])
    off, rounding = [], []
    for prompt, completion in zip(
        prompts, graph(prompts, 1, Sampling(40, temperature=1.0)), strict=True
    ):
        policy, precise = (token_logprobs(one, prompt, completion.tokens) for one in (model, exact))
        off.append((torch.tensor(completion.logprobs) - policy).abs())
        rounding.append((policy - precise).abs())
    assert 0 < torch.cat(off).mean() < 3 * torch.cat(rounding).mean()


def token_logprobs(model, prompt, completion):
    text = torch.tensor([[*prompt, *completion]], device="cuda")
    with torch.no_grad():
        logits = model(text).logits[0, len(prompt) - 1 : -1].float()
    return logits.log_softmax(-1).gather(1, text[0, len(prompt) :, None])[:, 0].cpu()


def test_true_shapes_in_bfloat16_are_the_engines_own():
    """Of random weights, whose norms are all alike: the rounding is measured, not guessed."""
    for layers, width in ((26, 1152), (18, 640)):
        shape: dict[str, Any] = {"num_hidden_layers": layers, "hidden_size": width, "head_dim": 256}
        shape |= {"query_pre_attn_scalar": 256, "intermediate_size": 4 * width}
        shape |= {"layer_types": ["sliding_attention"] * layers, "initializer_range": 0.02}
        model = tiny_gemma(**shape, vocab_size=8192).bfloat16().cuda()
        assert (
            choose_engine("auto", model, SimpleNamespace(pad_token_id=PAD), [EOS]).name == "graph"
        )
        model.model.layers[0].mlp.act_fn = torch.nn.ReLU()
        with torch.no_grad():
            assert why_not_alike(model, read_weights(model)) is not None


def adapted(family: str) -> Any:
    model = tiny_gemma(tie_word_embeddings=False, **SHAPE) if family == "gemma-3" else tiny(family)
    return with_lora(model, target_modules=r".*layers.*_proj")


@pytest.mark.parametrize("family", ["gemma-3", "qwen-2.5", "llama-with-biases", "olmo-2"])
def test_in_8_bits_greedy_completions_are_those_of_the_cpus_form(family):
    from xmlgrpo_rollout.gpu.engine import GraphEngine

    # both on the GPU: added up in another order, an entry may be rounded to the next step
    model = adapted(family).to("cuda")
    lean = StaticEngine(model, [10**6], PAD, int8=True)
    graph = GraphEngine(model, [10**6], PAD, int8=True)
    prompts, sampling = prompts_of([*range(1, 70), 33]), Sampling(12, temperature=0.0)
    for seed in (1, 9):  # captured once, refreshed between
        disturb(model, seed=seed)
        lean.refresh()
        torch.cuda.set_sync_debug_mode("error")  # a refresh waits for nothing
        try:
            graph.refresh()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        found, expected = graph(prompts, 1, sampling), lean(prompts, 1, sampling)
        assert tokens(found) == tokens(expected)
        for one, other in zip(found, expected, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
